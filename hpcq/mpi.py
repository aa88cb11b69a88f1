"""Agreement between ranks: on errors, and on who goes first.

Calls are pickled: for metadata only, never within a tick.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mpi4py import MPI

from hpcq.errors import HpcqError, StorageError

T = TypeVar("T")


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
        raise _collective(kind, message) from error
    return result  # type: ignore[return-value]


def on_root(comm: MPI.Intracomm, function: Callable[[], T], what: str = "") -> T:
    """Call `function` on rank 0; return its result, or raise its error, on all. Collective."""
    result, error = _attempt(function, what) if comm.rank == 0 else (None, None)
    result, kind, message = comm.bcast((result, error and type(error), str(error)))
    if kind is not None:
        raise _collective(kind, message) from error
    return result


def _attempt(function: Callable[[], T], what: str) -> tuple[T | None, HpcqError | None]:
    """Return what `function` returns, or the error to be raised on all ranks."""
    try:
        return function(), None
    except HpcqError as error:
        return None, error
    except OSError as error:
        return None, StorageError(f"{what}: {error}" if what else str(error))


def _collective(kind: type[HpcqError], message: str) -> HpcqError:
    """Return an error that every rank is about to raise."""
    error = kind(message)
    error.collective = True
    return error


def count_nodes(comm: MPI.Intracomm) -> int:
    """Return how many nodes the ranks are on: groups that share memory. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    first = node.rank == 0
    node.Free()
    return comm.allreduce(int(first))


@contextmanager
def first_on_each_node(comm: MPI.Intracomm) -> Iterator[None]:
    """Run the body on one rank of every node, then on the others. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    if node.rank > 0:
        node.Barrier()
    yield
    if node.rank == 0:
        node.Barrier()
    node.Free()
