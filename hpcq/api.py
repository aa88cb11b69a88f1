"""Train from Python, with any communicator, and see every report: what `hpcq run` does.

Errors are the exceptions of `hpcq.errors`. On several ranks, one that fails by itself ends all.
"""

import os
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcq.cluster.launch import complain, load_mpi
from hpcq.errors import ExitCode, HpcqError
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
    and ends. Whoever leaves the loop before its end keeps what was saved last; `resume` goes on.

    Parameters
    ----------
    comm
        the ranks that train together; None: MPI's world, in a notebook this process alone.
    overwrite
        replace the run that the directory holds.
    resume
        go on with it, if it is this job's.
    say
        is given every line that `hpcq run` prints, on rank 0; for example ``print``.

    Yields
    ------
    dict
        a line of metrics.jsonl: `step`, `mean_return`, `steps_per_second`, ...

    Raises
    ------
    HpcqError
        as `hpcq run` would report it.
    """
    comm = _world() if comm is None else comm
    tell = log if log is not None and comm.rank == 0 else (lambda line: None)
    with _never_hanging(comm), _stops() as pending_signals:
        from hpcq.run.start_or_resume import proceed
        from hpcq.run.train import starting

        if resume:
            return (yield from proceed(job, comm, tell, pending_signals))
        return (yield from starting(job, comm, tell, pending_signals, overwrite))


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
    from hpcq.run.run_directory import checkpoint_of

    return checkpoint_of(job.directory)


def _world() -> "MPI.Intracomm":
    # Windows are for shared memory alone, where Open MPI's part for UCX can only complain.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    MPI = load_mpi()
    if not MPI.Is_initialized():
        MPI.Init()
    return MPI.COMM_WORLD


def _stops() -> AbstractContextManager[list[int]]:
    """Signals reach the main thread only."""
    main = threading.current_thread() is threading.main_thread()
    return stop_signals() if main else nullcontext([])


@contextmanager
def _never_hanging(comm: "MPI.Intracomm") -> Iterator[None]:
    """End all ranks where one fails and the others do not know."""
    try:
        yield
    except HpcqError as error:
        if comm.size > 1 and not error.collective:
            complain(f"rank {comm.rank}: {error}")
            comm.Abort(error.exit_code)
        raise
    except Exception:
        if comm.size > 1:
            complain(f"rank {comm.rank}: internal error\n{traceback.format_exc().rstrip()}")
            comm.Abort(ExitCode.INTERNAL)
        raise
