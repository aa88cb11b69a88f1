"""The commands that train: run, resume; and estimate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcq.cli.options import LIVE, RANKS, RETRIES, SET, check_readable_by_ranks
from hpcq.cluster.launch import on_ranks, speaker
from hpcq.cluster.mpirun import run_on_ranks
from hpcq.cluster.supervise import is_rank
from hpcq.errors import ExitCode
from hpcq.output import echo
from hpcq.run import terminal

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcq.job.job import Job


def _output(comm: "MPI.Intracomm", live: bool | None) -> Callable[[str], object]:
    """Return the function for messages: on rank 0 the live view, or plain lines."""
    if comm.rank == 0 and terminal.shows(live):
        from hpcq.run.live import LiveView

        return LiveView()
    return speaker(comm)


def _on_new_ranks(
    ranks: int,
    arguments: list[str],
    retries: int,
    directory: Callable[[], Path],
    overwrite: bool = False,
) -> int:
    """Start ranks that do what this command was asked to; return the exit code."""
    if not retries:
        return run_on_ranks(ranks, arguments)
    from hpcq.cluster.relaunch import Retries

    return run_on_ranks(ranks, arguments, Retries(retries, directory(), overwrite))


def _check_retries(retries: int, ranks: int | None) -> None:
    if retries and ranks is None:
        raise click.UsageError(
            "--retries needs -n: only ranks that `hpcq run -n` starts can be started again; one "
            "process is `-n 1`"
        )


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@RANKS
@RETRIES
@SET
@click.option("--overwrite", is_flag=True, help="Replace the run that the directory holds.")
@click.option("--resume", "resume_run", is_flag=True, help="Resume it, if it is of this job.")
@click.option("--member", type=click.IntRange(0), help="Train this member of the file's [sweep].")
@LIVE
@click.pass_obj
def run(
    arguments: list[str],
    job: Path,
    ranks: int | None,
    retries: int,
    overrides: tuple[str, ...],
    overwrite: bool,
    resume_run: bool,
    member: int | None,
    live: bool | None,
) -> int:
    """Train the job of a TOML file.

    \b
    hpcq run -n 2 taxi.toml                      (on this machine)
    hpcq run -n 2 --retries 3 taxi.toml --resume    (and on, if ranks are killed)
    mpirun -n 64 hpcq run taxi.toml --set run.directory=/scratch/taxi
    """

    def load() -> "Job":
        from hpcq.cluster import sweep
        from hpcq.job.job import Job

        if member is None:
            return Job.load(job, overrides)
        return sweep.load(job, overrides).member(member)

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.mpi import on_root
        from hpcq.run.start_or_resume import to_end, train

        checked = on_root(comm, load)
        log = _output(comm, live)
        return to_end(train(checked, comm, log, pending_signals, overwrite, resume=resume_run))

    if resume_run and overwrite:
        raise click.UsageError("--overwrite and --resume exclude each other")
    _check_retries(retries, ranks)
    if ranks is not None and not is_rank():
        check_readable_by_ranks(job)
        return _on_new_ranks(ranks, arguments, retries, lambda: load().directory, overwrite)
    return on_ranks(body, watched=True)


@click.command()
@click.argument("directory", metavar="RUN_DIR", type=click.Path(path_type=Path))
@RANKS
@RETRIES
@SET
@click.option("--override", is_flag=True, help="Allow changes of how the job learns.")
@LIVE
@click.pass_obj
def resume(
    arguments: list[str],
    directory: Path,
    ranks: int | None,
    retries: int,
    overrides: tuple[str, ...],
    override: bool,
    live: bool | None,
) -> int:
    """Resume a run from its newest complete checkpoint, on any number of ranks.

    \b
    hpcq resume -n 2 runs/taxi
    mpirun -n 8 hpcq resume runs/taxi --set run.steps=50000000      (extends a finished run)
    hpcq resume runs/taxi --override --set learning.gamma=0.95
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.run.start_or_resume import resume_run, to_end

        log = _output(comm, live)
        return to_end(resume_run(directory, overrides, comm, log, pending_signals, override))

    _check_retries(retries, ranks)
    if ranks is not None and not is_rank():
        return _on_new_ranks(ranks, arguments, retries, lambda: directory)
    return on_ranks(body, watched=True)


@click.command()
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
    """Estimate the memory and disk that a job needs.

    \b
    hpcq estimate jobs/taxi.toml --states 1000000000 --ranks 256 --ranks-per-node 64
    """
    from hpcq.job.job import Job
    from hpcq.run.estimate import estimate as compute
    from hpcq.run.estimate import estimate_text

    found = compute(Job.load(job, overrides), states, ranks, ranks_per_node or ranks)
    echo(json.dumps(found) if as_json else estimate_text(found))
    return ExitCode.DONE
