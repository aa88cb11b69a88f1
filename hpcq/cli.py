"""The command line. Commands that need MPI start it themselves; the others never do."""

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcq import __version__
from hpcq.bench.cli import bench
from hpcq.errors import DependencyError, ExitCode, HpcqError
from hpcq.launch import complain, discard_output, on_ranks, speaker
from hpcq.launcher import first_rank, launched

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcq.doctor.facts import Facts

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
@click.option("--resume", "go_on", is_flag=True, help="Go on with it, if it is this job's.")
@click.option("--member", type=click.IntRange(0), help="Train this member of the file's [sweep].")
def run(
    job: Path, overrides: tuple[str, ...], overwrite: bool, go_on: bool, member: int | None
) -> ExitCode:
    """Train the job of a TOML file.

    \b
    mpirun -n 4 hpcq run jobs/taxi.toml --set run.directory=/scratch/taxi
    """

    def body(comm: "MPI.Intracomm", caught: list[int]) -> ExitCode:
        from hpcq import run as running
        from hpcq import sweep
        from hpcq.job import Job
        from hpcq.parallel import on_root
        from hpcq.proceed import proceed

        def load() -> Job:
            if member is None:
                return Job.load(job, overrides)
            return sweep.load(job, overrides).member(member)

        checked = on_root(comm, load)
        if go_on:
            return proceed(checked, comm, speaker(comm), caught)
        return running.start(checked, comm, speaker(comm), caught, overwrite)

    if go_on and overwrite:
        raise click.UsageError("--overwrite and --resume exclude each other")
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


@hpcq.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("runs"))
def doctor(directory: Path) -> ExitCode:
    """Look for what would make runs fail, wrong or slow; DIRECTORY is where they will be saved.

    
    mpirun -n 4 hpcq doctor /scratch/me          (as a run would start)
    hpcq doctor                                  (one process, without MPI)
    """
    from hpcq.doctor.checks import examine
    from hpcq.doctor.examination import examine_here, examine_ranks
    from hpcq.doctor.report import report_text

    ranks: list[Facts] = []

    def body(comm: "MPI.Intracomm", caught: list[int]) -> ExitCode:
        ranks.extend(examine_ranks(comm, directory))
        return ExitCode.DONE

    try:
        if launched()[0] > 1:
            on_ranks(body, whole=False)
    except DependencyError:
        pass  # without MPI; why, is among what is found here:
    if not first_rank():
        return ExitCode.DONE
    ranks = ranks or examine_here(directory)
    findings = examine(ranks)
    click.echo(report_text(ranks, findings))
    serious = any(finding.level == "problem" for finding in findings)
    return ExitCode.DEPENDENCY if serious else ExitCode.DONE


@hpcq.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--nodes", type=click.IntRange(1), help="Nodes; default 1.")
@click.option("--ntasks", type=click.IntRange(1), help="Ranks, over all nodes; default 4.")
@click.option("--time", help="Limit of one start, as sbatch takes it; default 4 hours.")
@click.option("--partition", help="Slurm's partition.")
@click.option("--account", help="Whom Slurm charges.")
@click.option("--at-once", type=click.IntRange(1), help="So many jobs of a sweep at a time.")
@click.option("--sbatch", "further", multiple=True, metavar="--OPTION=VALUE", help="For sbatch.")
@click.option("--dry-run", is_flag=True, help="Print the script; submit nothing.")
def submit(job: Path, overrides: tuple[str, ...], dry_run: bool, **options: Any) -> ExitCode:
    """Submit a job file, or all jobs of its [sweep], to Slurm.

    
    hpcq submit jobs/taxi.toml --ntasks 64 --time 2:00:00
    hpcq submit jobs/taxi.toml --sbatch --mem-per-cpu=4G --dry-run > my.sbatch
    """
    from hpcq.submit import Request, header_text, prepare
    from hpcq.submit import submit as hand_over

    submission = prepare(job, overrides, Request(**options))
    for note in submission.notes:
        click.echo(note, err=dry_run)
    if dry_run:
        click.echo(submission.script, nl=False)
        return ExitCode.DONE
    click.echo(header_text(submission.script))
    number = hand_over(submission)
    click.echo(f"submitted as {number}; see: squeue --me, hpcq-{number}*.log")
    return ExitCode.DONE


@hpcq.group("sweep")
def sweeps() -> None:
    """Show or collect the runs of a job file with a section [sweep]."""


@sweeps.command("list")
@click.argument("job", type=click.Path(path_type=Path))
@SET
def list_(job: Path, overrides: tuple[str, ...]) -> ExitCode:
    """Show every member of a sweep: its values, and how far it is."""
    from hpcq.collect import list_text
    from hpcq.sweep import load

    click.echo(list_text(load(job, overrides)))
    return ExitCode.DONE


@sweeps.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
def collect(job: Path, overrides: tuple[str, ...]) -> ExitCode:
    """Make one table of a sweep, with means and confidence intervals over seeds.

    
    hpcq sweep collect jobs/sweeps/frozenlake.toml      (also writes sweep.csv and best.toml)
    """
    from hpcq.collect import collect as make_table
    from hpcq.sweep import load

    click.echo(make_table(load(job, overrides)))
    return ExitCode.DONE


@hpcq.group()
def scaling() -> None:
    """Plan and report strong and weak scaling; slurm/scaling.sbatch makes the runs."""


@scaling.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--ranks", required=True, type=click.IntRange(1), help="The most ranks.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1), help="Each run.")
def plan(job: Path, overrides: tuple[str, ...], ranks: int, repeat: int) -> ExitCode:
    """Print a line for each run: ranks, folder, changed job keys."""
    from hpcq.job import Job
    from hpcq.scaling import plan_text

    click.echo(plan_text(Job.load(job, overrides), ranks, repeat))
    return ExitCode.DONE


@scaling.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> ExitCode:
    """Make a table and a plot of the runs in a scaling folder.

    
    hpcq scaling report runs/taxi-scaling
    """
    from hpcq.scaling import report as make_report

    click.echo(make_report(directory))
    return ExitCode.DONE


hpcq.add_command(bench)


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
        if first_rank():
            error.show()
        code = ExitCode.USAGE
    except click.Abort:
        code = 130
    except HpcqError as error:
        if first_rank():
            complain(str(error))
        code = error.exit_code
    except BrokenPipeError:
        discard_output()
        code = ExitCode.DONE
    except Exception:
        complain(f"internal error\n{traceback.format_exc().rstrip()}")
        code = ExitCode.INTERNAL
    sys.exit(int(code or 0))
