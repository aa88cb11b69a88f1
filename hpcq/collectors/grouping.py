"""Environments grouped by the rank that owns their states: the order in which messages are packed.

With a cursor for each rank, as in a counting sort, every environment waits until the last one of
its rank has moved the cursor in memory. Of few ranks each has a pass of its own instead, which
takes many environments at once.
"""

import numpy as np

from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.simd import WIDTH, equal, lowest, size_of

_FEW_RANKS = 8
_NONE, _ONE, _WIDTH, _AT_ONCE = np.uint64(0), np.uint64(1), np.uint64(WIDTH), np.uint64(8)


@inlined
def take(cursors, of):
    """Return where a cursor stands, and let it go on: at once, for the next may wait for it."""
    at = cursors[np.uint64(of)]
    cursors[np.uint64(of)] = at + _ONE
    return at


@inlined
def _spread(bitset, first, order, end):
    """Write `first` plus each number of a bitset to ``order[end:]``; return where they end."""
    last = end + size_of(bitset)
    if last + _AT_ONCE <= np.uint64(order.size):
        # Without asking after each whether it was the last one: what is too much is overwritten.
        while end < last:
            for k in range(_AT_ONCE):
                order[end + k] = first + lowest(bitset)
                bitset &= bitset - _ONE
            end += _AT_ONCE
        return last
    for k in range(end, last):
        order[k] = first + lowest(bitset)
        bitset &= bitset - _ONE
    return last


@kernel
def _by_passes(owners, order, ends):
    n, end = np.uint64(owners.size), _NONE
    whole = n // _WIDTH * _WIDTH
    for rank in range(ends.size):
        for i in range(_NONE, whole, _WIDTH):
            end = _spread(equal(owners, i, np.uint32(rank)), i, order, end)
        for i in range(whole, n):
            if owners[i] == np.uint32(rank):
                order[end] = i
                end += _ONE
        ends[rank] = end


@kernel
def _by_cursors(owners, order, ends):
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
def group(owners, order, ends):
    """Group environments by owner, in their order within each group.

    owners   uint32 (n,)
    order    uint32 (n,), out: their numbers, group after group
    ends     uint64 (ranks,), out: where each rank's group ends
    """
    if ends.size <= _FEW_RANKS:
        _by_passes(owners, order, ends)
    else:
        _by_cursors(owners, order, ends)
