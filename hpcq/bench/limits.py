"""The limits of this machine: random and sequential memory access, messages."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import allocate, prefetch

SIZES = (0, 256, 4096, 1 << 14, 1 << 16, 1 << 18, 1 << 20)

_AHEAD = 32


@kernel
def _update_lines(
    lines: NDArray[np.uint64], upcoming: NDArray[np.uint64], counter: np.uint64, count: int
) -> None:
    """Add 1 to random cache lines; addresses are known ahead, as in a batch of messages."""
    n = np.uint64(lines.shape[0])
    for i in range(_AHEAD):
        upcoming[i] = hi64(mix64(counter + np.uint64(i)), n)
    for i in range(count):
        slot = i % _AHEAD
        line = upcoming[slot]
        lines[line, 0] += np.uint64(1)
        following = hi64(mix64(counter + np.uint64(i + _AHEAD)), n)
        prefetch(lines[following], 0)
        upcoming[slot] = following


@kernel
def _sum(array: NDArray[np.uint64]) -> np.uint64:
    total = np.uint64(0)
    for i in range(array.size):
        total += array[i]
    return total


def _repeat(comm: MPI.Intracomm, call: Callable[[], Any], seconds: float) -> list[float]:
    """Time a call that all ranks make at once; the slowest rank's seconds of each repeat."""
    call()
    times: list[float] = []
    spent = 0.0
    while len(times) < 3 or spent < seconds:
        comm.Barrier()
        start = time.perf_counter()
        call()
        times.append(comm.allreduce(time.perf_counter() - start, MPI.MAX))
        spent += times[-1]
    return times


def random_lines(comm: MPI.Intracomm, nbytes: int, seconds: float) -> float:
    """Return random 64-byte lines updated per second by all ranks, each in `nbytes`. Collective."""
    lines = allocate(nbytes // 64 * 64).view(np.uint64).reshape(-1, 8)
    lines[:] = 0
    upcoming = np.zeros(_AHEAD, np.uint64)
    count = 2_000_000
    counter = np.uint64(comm.rank << 40)

    def call() -> None:
        nonlocal counter
        _update_lines(lines, upcoming, counter, count)
        # New lines each time: the last ones may still be in a cache.
        counter += np.uint64(count)

    times = _repeat(comm, call, seconds)
    return comm.size * count / float(np.median(times))


def sequential(comm: MPI.Intracomm, nbytes: int, seconds: float) -> float:
    """Return bytes read in order per second by all ranks together. Collective."""
    array = allocate(nbytes // 64 * 64).view(np.uint64)
    array[:] = 1
    times = _repeat(comm, lambda: _sum(array), seconds)
    return comm.size * array.nbytes / float(np.median(times))


def alltoallv(comm: MPI.Intracomm, sizes: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    """Return seconds and bytes per second and rank of Alltoallv, by bytes per peer. Collective."""
    found = []
    for size in sizes:
        counts = np.full(comm.size, size)
        sent = np.zeros(max(1, size * comm.size), np.uint8)
        got = np.zeros_like(sent)
        repeats = 100 if size <= 1 << 16 else 10

        def call(
            sent: Any = sent, got: Any = got, counts: Any = counts, repeats: int = repeats
        ) -> None:
            for _ in range(repeats):
                comm.Alltoallv([sent, counts, MPI.BYTE], [got, counts, MPI.BYTE])

        one = float(np.median(_repeat(comm, call, seconds))) / repeats
        found.append(
            {
                "bytes_per_peer": size,
                "microseconds": one * 1e6,
                "bytes_per_second": size * (comm.size - 1) / one,
            }
        )
    return found


def bench(comm: MPI.Intracomm, seconds: float, nbytes: int = 1 << 30) -> dict[str, Any]:
    """Measure all of it, in `nbytes` per rank. Collective."""
    return {
        "ranks": comm.size,
        "bytes_per_rank": nbytes,
        "lines_per_second": random_lines(comm, nbytes, seconds),
        "sequential_bytes_per_second": sequential(comm, nbytes, seconds),
        "alltoallv": alltoallv(comm, SIZES, seconds / len(SIZES)),
    }
