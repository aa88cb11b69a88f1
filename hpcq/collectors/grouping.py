"""Group environments by the rank that owns their states: the order in which messages are packed.

A counting sort has a store-to-load dependency from each environment to the next one of the same
rank. For few ranks, one vectorised pass per rank is faster.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.simd import WIDTH, equal, lowest, size_of

_FEW_RANKS = 8
_NONE, _ONE, _WIDTH, _UNROLLED = np.uint64(0), np.uint64(1), np.uint64(WIDTH), np.uint64(8)


@kernel
def occurs(values: NDArray, value: Any) -> bool:
    """Return whether an array contains a value; without an early exit, so that it vectorises."""
    found = False
    for i in range(values.size):
        found |= values[i] == value
    return found


@inlined
def take(cursors: NDArray[np.uint64], group: Any) -> Any:
    """Return the cursor of a group and advance it, at once: the next call may wait for it."""
    at = cursors[np.uint64(group)]
    cursors[np.uint64(group)] = at + _ONE
    return at


@inlined
def _append(bitset: np.uint64, first: Any, order: NDArray[np.uint32], end: Any) -> Any:
    """Write `first` plus each member of a bitset to ``order[end:]``; return the new end."""
    last = end + size_of(bitset)
    if last + _UNROLLED <= np.uint64(order.size):
        # Blocks of fixed length, without a branch per member: the excess is overwritten later.
        while end < last:
            for k in range(_UNROLLED):
                order[end + k] = first + lowest(bitset)
                bitset &= bitset - _ONE
            end += _UNROLLED
        return last
    for k in range(end, last):
        order[k] = first + lowest(bitset)
        bitset &= bitset - _ONE
    return last


@kernel
def _by_passes(
    owners: NDArray[np.uint32], order: NDArray[np.uint32], ends: NDArray[np.uint64]
) -> None:
    n, end = np.uint64(owners.size), _NONE
    whole = n // _WIDTH * _WIDTH
    for rank in range(ends.size):
        for i in range(_NONE, whole, _WIDTH):
            end = _append(equal(owners, i, np.uint32(rank)), i, order, end)
        for i in range(whole, n):
            if owners[i] == np.uint32(rank):
                order[end] = i
                end += _ONE
        ends[rank] = end


@kernel
def _by_cursors(
    owners: NDArray[np.uint32], order: NDArray[np.uint32], ends: NDArray[np.uint64]
) -> None:
    n, end = np.uint64(owners.size), _NONE
    for rank in range(ends.size):
        ends[rank] = _NONE
    for i in range(n):
        take(ends, owners[i])
    for rank in range(ends.size):
        ends[rank], end = end, end + ends[rank]
    for i in range(n):
        order[take(ends, owners[i])] = i


@kernel
def group(owners: NDArray[np.uint32], order: NDArray[np.uint32], ends: NDArray[np.uint64]) -> None:
    """Group environments by owner, in their order within each group.

    Parameters
    ----------
    owners
        uint32 (n,).
    order
        uint32 (n,), out: the environments, one group after the other.
    ends
        uint64 (ranks,), out: where each rank's group ends.
    """
    if ends.size <= _FEW_RANKS:
        _by_passes(owners, order, ends)
    else:
        _by_cursors(owners, order, ends)
