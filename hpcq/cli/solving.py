"""The commands on exact solutions: explore, solve."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcq.cli.options import RANKS, SET, check_readable_by_ranks
from hpcq.cluster.launch import on_ranks, speaker
from hpcq.cluster.mpirun import run_on_ranks
from hpcq.cluster.supervise import is_rank
from hpcq.errors import ExitCode

if TYPE_CHECKING:
    from mpi4py import MPI


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@RANKS
@SET
@click.option(
    "--export",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write all outcomes as arrays, to an .npz file; on one rank.",
)
@click.option("--start", metavar="OBSERVATION", help="Begin with this state, as in `hpcq query`.")
@click.pass_obj
def explore(
    arguments: list[str],
    job: Path,
    ranks: int | None,
    overrides: tuple[str, ...],
    start: str | None,
    export: Path | None,
) -> int:
    """Count the states that can be reached, by their distance from the start.

    The job's environment must say what can happen: hpcq's own with a finite model do, and
    Gymnasium's toy text.

    \b
    hpcq explore jobs/taxi.toml
    hpcq explore -n 2 jobs/cube.toml --start "[0, 0]"
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.cli.checkpoint import observation_of
        from hpcq.job.job import Job
        from hpcq.mpi import on_root
        from hpcq.run.exploring import explore as find

        checked = on_root(comm, lambda: Job.load(job, overrides))
        root = None if start is None else observation_of(start)
        return find(checked, comm, speaker(comm), pending_signals, root, export)

    if ranks is not None and not is_rank():
        check_readable_by_ranks(job)
        return run_on_ranks(ranks, arguments)
    return on_ranks(body, watched=True)


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@RANKS
@SET
@click.option("--overwrite", is_flag=True, help="Replace what the directory holds.")
@click.option("--resume", "resume_run", is_flag=True, help="Go on with it, if it is of this job.")
@click.option(
    "--policy",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also say what the greedy policy of this checkpoint or run directory is worth.",
)
@click.pass_obj
def solve(
    arguments: list[str],
    job: Path,
    ranks: int | None,
    overrides: tuple[str, ...],
    overwrite: bool,
    resume_run: bool,
    policy: Path | None,
) -> int:
    """Compute the exact optimal values of all states, with a proven bound.

    The result is a checkpoint like that of a learned table, in a run directory of its own, by
    default runs/NAME-solved.

    \b
    hpcq solve -n 2 jobs/taxi.toml
    hpcq diff runs/taxi runs/taxi-solved
    hpcq solve jobs/taxi.toml --policy runs/taxi
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.job.job import Job
        from hpcq.mpi import on_root
        from hpcq.run import solving

        def load() -> Job:
            found = Job.load(job, overrides)
            given = any(one.partition("=")[0].strip() == "run.directory" for one in overrides)
            return found if given else solving.beside(found)

        checked = on_root(comm, load)
        return solving.solve(
            checked, comm, speaker(comm), pending_signals, overwrite, resume_run, policy
        )

    if resume_run and overwrite:
        raise click.UsageError("--overwrite and --resume exclude each other")
    if ranks is not None and not is_rank():
        check_readable_by_ranks(job)
        return run_on_ranks(ranks, arguments)
    return on_ranks(body, watched=True)
