"""Train from Python, on any communicator, with every report: what `hpcq run` does.

Errors are the exceptions of `hpcq.errors`. On several ranks, an error on one of them ends all.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcq.cluster.launch import abort_on_failure, start_mpi
from hpcq.errors import ExitCode, HpcqError, for_python
from hpcq.job.job import Job
from hpcq.run.signals import stop_signals

if TYPE_CHECKING:
    from mpi4py import MPI

Log = Callable[[str], object]


def iter_train(
    job: Job,
    comm: "MPI.Intracomm | None" = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    log: Log | None = None,
) -> Generator[dict[str, Any], None, ExitCode]:
    """Train a job; yield a report about every `run.report_every` seconds, and at the end.

    Collective: every rank of `comm` calls it and sees the same reports. The run directory is as
    `hpcq run` leaves it. Interrupted (Ctrl-C, a notebook's stop button, or USR1), it saves the run
    and ends. After leaving the loop early, what was saved last stays; `resume` goes on from there.

    Parameters
    ----------
    comm
        the ranks that train together; None: MPI's world, in a notebook this process alone.
    overwrite
        replace the run that the directory holds.
    resume
        go on with it, if it is this job's.
    log
        is called with every line that `hpcq run` prints, on rank 0; for example ``print``.

    Yields
    ------
    dict
        a line of metrics.jsonl: `step`, `mean_return`, `steps_per_second`, ...

    Raises
    ------
    HpcqError
        as `hpcq run` would report it.
    """
    comm = start_mpi() if comm is None else comm
    on_root = log if log is not None and comm.rank == 0 else (lambda line: None)
    with abort_on_failure(comm), _stop_signals() as pending_signals, _in_python():
        from hpcq.run import start_or_resume

        return (
            yield from start_or_resume.train(
                job, comm, on_root, pending_signals, overwrite=overwrite, resume=resume
            )
        )


def train(
    job: Job,
    comm: "MPI.Intracomm | None" = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    log: Log | None = None,
) -> Path:
    """Train a job to its end, or until it is interrupted; return the newest checkpoint. Collective.

    See `iter_train` for the parameters.
    """
    for _ in iter_train(job, comm, overwrite=overwrite, resume=resume, log=log):
        pass
    from hpcq.checkpoint.files import list_checkpoints

    return list_checkpoints(job.directory)[0]


def solve(
    job: Job,
    comm: "MPI.Intracomm | None" = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    log: Log | None = None,
) -> Path:
    """Compute the optimal values of all states of a job; return the checkpoint. Collective.

    What `hpcq solve` does. The run directory is ``runs/NAME-solved``, or that of the job with
    ``-solved`` behind its name.

    Parameters
    ----------
    comm, overwrite, resume, log
        see `iter_train`.

    Raises
    ------
    HpcqError
        as `hpcq solve` would report it.
    """
    comm = start_mpi() if comm is None else comm
    on_root = log if log is not None and comm.rank == 0 else (lambda line: None)
    with abort_on_failure(comm), _stop_signals() as pending_signals, _in_python():
        from hpcq.run import solving

        own = solving.beside(job)
        solving.solve(own, comm, on_root, pending_signals, overwrite, resume)
    from hpcq.checkpoint.files import list_checkpoints

    return list_checkpoints(own.directory)[0]


def evaluate(
    path: str | Path, episodes: int = 100, seed: int = 0, job: Path | None = None
) -> dict[str, Any]:
    """Return mean, 95 % confidence interval and spread of the greedy policy's returns.

    See `hpcq.view.evaluate.evaluate`, which this calls.
    """
    from hpcq.view.evaluate import evaluate as play

    with _in_python():
        return play(path, episodes, seed, job)


@contextmanager
def _in_python() -> Iterator[None]:
    """Say errors in the words of this module, not by the options of the command line."""
    try:
        yield
    except HpcqError as error:
        raise for_python(error) from error.__cause__


def _stop_signals() -> AbstractContextManager[list[int]]:
    """Collect stop signals; Python delivers them to the main thread only."""
    main = threading.current_thread() is threading.main_thread()
    return stop_signals() if main else nullcontext([])
