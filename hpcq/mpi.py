"""Agreement between ranks: on errors, and on who goes first; and how they wait for each other.

Calls are pickled: for metadata only, never within a tick.

MPI looks for messages without a pause, or yields the processor for a moment: on cores that are
shared, a rank that waits takes time from the one that it waits for. Here ranks wait with a
non-blocking call, and sleep between two looks at it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mpi4py import MPI

from hpcq.errors import HpcqError, StorageError

T = TypeVar("T")

# For so long a rank looks without sleeping; then it sleeps, twice as long each time, up to a limit:
# MPI transports data only while somebody looks.
LOOK_SECONDS = 50e-6
FIRST_SLEEP = 20e-6
DATA_SLEEP = 50e-6
LONGEST_SLEEP = 1e-3

# What tells one running kernel, and one set of process numbers, from another.
_BOOT, _PROCESSES = "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"


def let_sleeps_end_in_time() -> None:
    """Ask the kernel not to prolong the sleeps of this thread: it adds 50 us, to wake fewer times.

    proc(5), timerslack_ns; where there is no such file, sleeps stay as they are.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")


def wait_until(done: Callable[[], bool], longest_sleep: float = LONGEST_SLEEP) -> None:
    """Return once `done` says so; sleep between two looks if that takes a while."""
    if done():
        return
    ends, sleep = time.perf_counter() + LOOK_SECONDS, FIRST_SLEEP
    while not done():
        if time.perf_counter() < ends:
            os.sched_yield()
            continue
        time.sleep(sleep)
        sleep = min(2 * sleep, longest_sleep)


def wait_all(requests: Sequence[MPI.Request]) -> None:
    """Wait for messages that carry data, as `MPI.Request.Waitall` does."""
    wait_until(lambda: MPI.Request.Testall(requests), DATA_SLEEP)


def barrier(comm: MPI.Comm) -> None:
    """Wait for all ranks, as `Barrier` does. Collective."""
    wait_until(comm.Ibarrier().Test)


class PatientComm(MPI.Intracomm):
    """The ranks of a communicator, which sleep until all of them have come to a collective call."""

    def Barrier(self) -> None:
        """Wait for all ranks."""
        barrier(self)

    def Allreduce(self, *args: Any, **options: Any) -> None:
        """Combine arrays of all ranks."""
        barrier(self)
        super().Allreduce(*args, **options)

    def Gather(self, *args: Any, **options: Any) -> None:
        """Collect arrays on one rank."""
        barrier(self)
        super().Gather(*args, **options)

    def allreduce(self, *args: Any, **options: Any) -> Any:
        """Combine values of all ranks."""
        barrier(self)
        return super().allreduce(*args, **options)

    def allgather(self, *args: Any, **options: Any) -> Any:
        """Collect values on all ranks."""
        barrier(self)
        return super().allgather(*args, **options)

    def gather(self, *args: Any, **options: Any) -> Any:
        """Collect values on one rank."""
        barrier(self)
        return super().gather(*args, **options)

    def bcast(self, *args: Any, **options: Any) -> Any:
        """Send a value to all ranks."""
        barrier(self)
        return super().bcast(*args, **options)


def patient(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return these ranks as `PatientComm`, the same communicator; one rank waits for nobody."""
    return PatientComm(comm) if comm.size > 1 else comm


def agree(comm: MPI.Intracomm, function: Callable[[], T], what: str = "") -> T:
    """Call `function` on every rank; if it fails on any, fail on all. Collective.

    Raises
    ------
    HpcqError
        the error of the first rank that failed, `collective`, and naming the rank unless all
        failed; an OSError becomes a StorageError.
    """
    result, error = _attempt(function, what)
    first = comm.allreduce(comm.size if error is None else comm.rank, MPI.MIN)
    if first < comm.size:
        everywhere = comm.allreduce(error is not None, MPI.LAND)
        kind, message = comm.bcast(error and (type(error), str(error)), first)
        if not everywhere:
            message = f"rank {first}: {message}"
        raise kind(message).on_all_ranks() from error
    return result  # type: ignore[return-value]


def on_root(comm: MPI.Intracomm, function: Callable[[], T], what: str = "") -> T:
    """Call `function` on rank 0; return its result, or raise its error, on all. Collective."""
    result, error = _attempt(function, what) if comm.rank == 0 else (None, None)
    result, kind, message = comm.bcast((result, error and type(error), str(error)))
    if kind is not None:
        raise kind(message).on_all_ranks() from error
    return result


def _attempt(function: Callable[[], T], what: str) -> tuple[T | None, HpcqError | None]:
    """Return what `function` returns, or the error to be raised on all ranks."""
    try:
        return function(), None
    except HpcqError as error:
        return None, error
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return None, StorageError(f"{what}: {text}" if what else text)


def node_of(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return the ranks of this rank's node, which can share memory, in their order. Collective.

    By the names of hosts and of Slurm's nodes, and the numbers of kernel and process namespace:
    Open MPI 4 has given ranks of two hosts different answers to that question.
    """
    name: tuple[object, ...] = socket.gethostname(), os.environ.get("SLURMD_NODENAME")
    with contextlib.suppress(OSError):
        name += Path(_BOOT).read_text(), os.stat(_PROCESSES).st_ino
    names = comm.allgather(name)
    node = comm.Split(names.index(name), comm.rank)
    assert isinstance(node, MPI.Intracomm)
    return node


def count_nodes(comm: MPI.Intracomm) -> int:
    """Return how many nodes the ranks are on. Collective."""
    node = node_of(comm)
    first = node.rank == 0
    node.Free()
    return comm.allreduce(int(first))


@contextmanager
def first_on_each_node(comm: MPI.Intracomm) -> Iterator[None]:
    """Run the body on one rank of every node, then on the others. Collective."""
    node = node_of(comm)
    if node.rank > 0:
        barrier(node)
    yield
    if node.rank == 0:
        barrier(node)
    node.Free()
