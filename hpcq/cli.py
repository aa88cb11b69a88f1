"""The command line. Commands that need MPI start it themselves; the others never do."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcq import __version__
from hpcq.bench.cli import bench
from hpcq.errors import ExitCode, HpcqError
from hpcq.launch import complain, discard_output, on_ranks, speaker

if TYPE_CHECKING:
    from mpi4py import MPI

EXIT_CODES = """\b
Exit codes: 0 done, 64 usage or job file, 65 bad checkpoint, 69 missing dependency,
70 environment or internal error, 73 run directory, 74 I/O error, 75 stopped, can be resumed,
76 stalled.
"""


@click.group(epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="hpcq")
def hpcq() -> None:
    """Distributed tabular Q-learning over MPI.

    \b
    mpirun -n 4 hpcq run jobs/taxi.toml
    hpcq inspect runs/taxi/ckpt-*.h5
    """


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a key of the job, for example run.steps=1000000. May be repeated.",
)


@hpcq.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--overwrite", is_flag=True, help="Replace the run that the directory holds.")
def run(job: Path, overrides: tuple[str, ...], overwrite: bool) -> ExitCode:
    """Train the job of a TOML file.

    \b
    mpirun -n 4 hpcq run jobs/taxi.toml --set run.directory=/scratch/taxi
    """

    def body(comm: "MPI.Intracomm", caught: list[int]) -> ExitCode:
        from hpcq import run as running
        from hpcq.job import Job
        from hpcq.parallel import on_root

        checked = on_root(comm, lambda: Job.load(job, overrides))
        return running.start(checked, comm, speaker(comm), caught, overwrite)

    return on_ranks(body)


@hpcq.command()
@click.argument("directory", metavar="RUN_DIR", type=click.Path(path_type=Path))
@SET
@click.option("--override", is_flag=True, help="Let the job learn in another way from here on.")
def resume(directory: Path, overrides: tuple[str, ...], override: bool) -> ExitCode:
    """Go on with a run from its newest whole checkpoint, on any number of ranks.

    \b
    mpirun -n 8 hpcq resume runs/taxi
    hpcq resume runs/taxi --set run.steps=50000000      (extends a finished run)
    hpcq resume runs/taxi --override --set learning.gamma=0.95
    """

    def body(comm: "MPI.Intracomm", caught: list[int]) -> ExitCode:
        from hpcq import run as running

        return running.resume(directory, overrides, comm, speaker(comm), caught, override)

    return on_ranks(body)


@hpcq.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--states", required=True, type=click.IntRange(1), help="Rows of the table.")
@click.option("--ranks", default=1, show_default=True, type=click.IntRange(1))
@click.option("--ranks-per-node", type=click.IntRange(1), help="Default: all on one node.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def estimate(
    job: Path,
    overrides: tuple[str, ...],
    states: int,
    ranks: int,
    ranks_per_node: int | None,
    as_json: bool,
) -> ExitCode:
    """Tell what memory and disk a job will need.

    \b
    hpcq estimate jobs/taxi.toml --states 1000000000 --ranks 256 --ranks-per-node 64
    """
    from hpcq.estimate import estimate as compute
    from hpcq.estimate import estimate_text
    from hpcq.job import Job

    found = compute(Job.load(job, overrides), states, ranks, ranks_per_node or ranks)
    click.echo(json.dumps(found) if as_json else estimate_text(found))
    return ExitCode.DONE


@hpcq.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--row", metavar="OBSERVATION", help="Show one state, given as JSON: 42 or [3, 1].")
def inspect(file: Path, as_json: bool, row: str | None) -> ExitCode:
    """Show what a checkpoint holds.

    \b
    hpcq inspect runs/taxi/ckpt-000000020000000.h5 --row 328
    """
    from hpcq import inspect as inspection
    from hpcq.present import row_text, summary_text

    if row is not None:
        try:
            observation = json.loads(row)
        except ValueError:
            raise click.BadParameter(f"{row!r} is not JSON", param_hint="--row") from None
        found = inspection.inspect_row(file, observation)
        click.echo(json.dumps(found) if as_json else row_text(found))
    else:
        summary = inspection.inspect(file)
        click.echo(json.dumps(summary) if as_json else summary_text(summary))
    return ExitCode.DONE


@hpcq.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def verify(files: tuple[str, ...]) -> ExitCode:
    """Check checkpoints in full: structure, checksums, order, digest.

    \b
    hpcq verify runs/taxi/ckpt-*.h5
    """
    from hpcq.errors import CheckpointError
    from hpcq.reader import verify as check

    code = ExitCode.DONE
    for file in files:
        try:
            header, digest = check(file)
            click.echo(f"{file}: whole, step {header.step:,}, digest {digest}")
        except CheckpointError as error:
            click.echo(f"hpcq: {error}", err=True)
            code = ExitCode.CHECKPOINT
    return code


hpcq.add_command(bench)


def _first_rank() -> bool:
    """Return whether this process speaks for the job, by the launcher's variables."""
    names = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with a code of `errors.ExitCode`."""
    import mpi4py

    # An h5py with MPI imports mpi4py: that alone must start nothing.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    try:
        code = hpcq.main(arguments, prog_name="hpcq", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        if _first_rank():
            error.show()
        code = ExitCode.USAGE
    except click.Abort:
        code = 130
    except HpcqError as error:
        complain(str(error))
        code = error.exit_code
    except BrokenPipeError:
        discard_output()
        code = ExitCode.DONE
    except Exception:
        complain(f"internal error\n{traceback.format_exc().rstrip()}")
        code = ExitCode.INTERNAL
    sys.exit(int(code or 0))
