"""The halo: the values of other ranks' states that a rank needs, and who needs its own.

Which they are is found while the state space is explored; then each sweep ends with one exchange.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.hashing import owner
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import prefetch_to_read
from hpcq.mpi import wait_all

# Values that a rank sends in a round of the exchange.
_ROUND = 1 << 20

_AHEAD = 32


@kernel
def _count(hashes: NDArray[np.uint64], ranks: np.uint64, counts: NDArray[np.int64]) -> None:
    for i in range(hashes.size):
        counts[owner(hashes[i], ranks)] += 1


@kernel
def _place(
    hashes: NDArray[np.uint64], ranks: np.uint64, ends: NDArray[np.int64], place: NDArray[np.uint32]
) -> None:
    for i in range(hashes.size):
        to = owner(hashes[i], ranks)
        place[i] = ends[to]
        ends[to] += 1


@kernel
def gather(
    values: NDArray[Any],
    places: NDArray[np.uint32],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Write the values at ``places[starts[r]]``, ``counts[r]`` of them, for each r in turn."""
    n = 0
    for r in range(counts.size):
        for i in range(starts[r], starts[r] + counts[r]):
            if i + _AHEAD < places.size:
                prefetch_to_read(values, np.uint64(places[i + _AHEAD]))
            out[n] = values[np.uint64(places[i])]
            n += 1


def by_owner(
    hashes: NDArray[np.uint64], ranks: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return where each hash stands when they are grouped by owner, and how many each rank owns."""
    counts, place = np.zeros(ranks, np.int64), np.empty(hashes.size, np.uint32)
    _count(hashes, np.uint64(ranks), counts)
    _place(hashes, np.uint64(ranks), np.cumsum(counts) - counts, place)
    return place, counts


def exchange(
    comm: MPI.Intracomm, rows: NDArray[Any], sent: NDArray[np.int64], flags: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Send rows, ``sent[r]`` of them to rank r, and flags. Collective.

    Returns the rows received, how many of each rank, and the flags: the largest of all ranks.
    """
    here = np.empty((comm.size, 1 + flags.size), np.int64)
    here[:, 0], here[:, 1:] = sent, flags
    there = np.empty_like(here)
    wait_all([comm.Ialltoall(here, there)])
    received = there[:, 0].copy()
    found = np.empty(int(received.sum()), rows.dtype)
    wait_all([comm.Ialltoallv([rows, sent], [found, received])])
    return found, received, there[:, 1:].max(axis=0)


class Halo:
    """The exchange of values at the end of a sweep.

    Attributes
    ----------
    size : int
        values of other ranks' states that this rank needs
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.size = 0
        self._comm = comm
        self._asked: list[list[NDArray[np.uint32]]] = [[] for _ in range(comm.size)]
        self._sent = self._received = np.zeros(comm.size, np.int64)
        self._places = np.zeros(0, np.uint32)
        self._share, self._rounds = -(-_ROUND // comm.size), 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._places.nbytes + sum(part.nbytes for parts in self._asked for part in parts)

    def note(self, source: int, numbers: NDArray[np.uint32]) -> None:
        """Note which states another rank needs, after those that it has asked for before."""
        self._asked[source].append(numbers)

    def close(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """End the noting; return the places of the other ranks' states, by number. Collective.

        They are the order in which their owners send them: owner after owner.
        """
        place, self._received = by_owner(hashes, self._comm.size)
        self.size = hashes.size
        self._sent = np.array([sum(map(len, parts)) for parts in self._asked], np.int64)
        parts = [part for parts in self._asked for part in parts]
        self._places = np.concatenate([*parts, np.zeros(0, np.uint32)])
        self._asked = [[] for _ in self._asked]
        most = self._comm.allreduce(int(max(self._sent.max(), self._received.max())), MPI.MAX)
        self._rounds = -(-most // self._share)
        return place

    def fill(self, values: NDArray[Any], own: int) -> None:
        """Fetch the others' values into ``values[own : own + size]``. Collective.

        In rounds, so that not all that is sent is in memory once more.
        """
        if not self._rounds:
            return
        found = values[own : own + self.size]
        out = np.empty(min(self._share, int(self._sent.max())) * self._comm.size, values.dtype)
        from_, to = (np.cumsum(counts) - counts for counts in (self._sent, self._received))
        for done in range(0, self._rounds * self._share, self._share):
            sent, received = (
                np.clip(counts - done, 0, self._share) for counts in (self._sent, self._received)
            )
            gather(values, self._places, from_ + done, sent, out)
            wait_all([self._comm.Ialltoallv([out, sent], [found, (received, to + done)])])
