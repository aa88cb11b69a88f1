"""The rows of one rank: a hash table kept in hash order.

Ordered open addressing with linear probing (Amble and Knuth, "Ordered hash tables", The
Computer Journal 17(2), 1974). A row's home is a bucket: as many slots as fill a cache line. Homes
are monotone in the hash and there is no wrap-around, so the rows stand in hash order: growing,
saving and loading are single passes, and a search for an absent hash ends at the first larger one.

An empty slot holds the largest hash. The one state that really has this hash has a slot of its
own, the last, and a flag that says whether it is there.

Hashes and Q-values of a row are neighbours in memory; kernels see them as two contiguous arrays a
few bytes apart. That of the hashes is of records as long as a row, a length that the compiler knows
then: to find a row takes a shift, not a multiplication. Visit counts, where kept, stand in an array
of their own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MAX_HASH, home_bucket
from hpcq.jit.compiler import kernel

_ONE = np.uint64(1)

# Places in the state array that the kernels share with the class.
ROWS, HAS_MAX, LIMIT = 0, 1, 2


class Table(NamedTuple):
    """The arrays of a shard as kernels see them."""

    hashes: NDArray[np.void]
    """(slots,), records of which `hash` (uint64) is all but the room for the values"""
    q: NDArray[np.floating]
    """(slots, numbers in a record): columns 0 ... `columns` - 1; starts where a row's values do"""
    visits: NDArray[np.uint32]
    """(slots, columns), or (slots, 0) where visits are not counted"""
    masks: NDArray[np.uint64]
    """(slots, 1), the legal actions as a bitset, or (slots, 0) where there are no masks"""
    state: NDArray[np.int64]
    ranks: np.uint64
    buckets: np.uint64
    width: int
    """slots of a bucket"""
    columns: int
    """values of a row: one for every action, in every table of the rule"""
    q_init: float


@kernel
def home_slot(hash_, ranks, buckets, width):
    """Return the first slot of a hash's bucket."""
    return np.int64(home_bucket(hash_, ranks, buckets)) * width


@kernel
def probe(hashes, slot, hash_):
    """Return the slot where the row of a hash is, if there is one: see `holds`.

    `slot` (uint64) is its home or further on.
    """
    if hash_ == MAX_HASH:
        return np.uint64(hashes.shape[0] - 1)
    while hashes[slot].hash < hash_:
        slot += _ONE
    return slot


@kernel
def holds(hashes, state, slot, hash_):
    """Return whether the row of a hash is in a slot."""
    return hashes[slot].hash == hash_ and (hash_ != MAX_HASH or state[HAS_MAX] != 0)


@kernel
def find(table, hash_):
    """Return the slot of a hash, or -1 where it has no row."""
    home = home_slot(hash_, table.ranks, table.buckets, table.width)
    slot = probe(table.hashes, np.uint64(home), hash_)
    return np.int64(slot) if holds(table.hashes, table.state, slot, hash_) else -1


@kernel
def _clear(table, slot, hash_):
    table.hashes[slot].hash = hash_
    for a in range(table.columns):
        table.q[slot, a] = table.q_init
    for a in range(table.visits.shape[1]):
        table.visits[slot, a] = 0
    for k in range(table.masks.shape[1]):
        table.masks[slot, k] = 0
    table.state[ROWS] += 1


@kernel
def move(source, old, target, new):
    """Copy the row in slot `old` to slot `new` of `target`."""
    target.hashes[new].hash = source.hashes[old].hash
    for a in range(source.columns):
        target.q[new, a] = source.q[old, a]
    for a in range(source.visits.shape[1]):
        target.visits[new, a] = source.visits[old, a]
    for k in range(source.masks.shape[1]):
        target.masks[new, k] = source.masks[old, k]


@kernel
def insert(table, hash_):
    """Return the slot of a hash, making its row where there is none; -1 if the shard is full."""
    last = table.hashes.shape[0] - 1
    if hash_ == MAX_HASH:
        if not table.state[HAS_MAX]:
            table.state[HAS_MAX] = 1
            _clear(table, last, hash_)
        return last
    slot = home_slot(hash_, table.ranks, table.buckets, table.width)
    while table.hashes[slot].hash < hash_:
        slot += 1
    if table.hashes[slot].hash == hash_:
        return slot
    # The two last slots stay out of reach: one empty, where every search ends, one for MAX_HASH.
    end = slot
    while table.hashes[end].hash != MAX_HASH:
        end += 1
    if table.state[ROWS] >= table.state[LIMIT] or end >= last - 1:
        return -1
    for i in range(end, slot, -1):
        move(table, i - 1, table, i)
    _clear(table, slot, hash_)
    return slot


@kernel
def end_with(table, buckets):
    """Return the slot after the last row, were there so many buckets."""
    free = 0
    for i in range(table.hashes.shape[0] - 1):
        hash_ = table.hashes[i].hash
        if hash_ != MAX_HASH:
            free = max(free, home_slot(hash_, table.ranks, buckets, table.width)) + 1
    return free


@kernel
def empty(table, start, stop):
    """Empty the slots `start` ... `stop` - 1."""
    for slot in range(start, stop):
        table.hashes[slot].hash = MAX_HASH


@kernel
def move_all(source, start, stop, target, free):
    """Move the rows in the slots `start` ... `stop` - 1 to `target`, filled up to slot `free`.

    Returns up to where it is filled then. The two last slots of either are not for this.
    """
    for i in range(start, stop):
        hash_ = source.hashes[i].hash
        if hash_ != MAX_HASH:
            slot = max(free, home_slot(hash_, target.ranks, target.buckets, target.width))
            empty(target, free, slot)
            move(source, i, target, slot)
            free = slot + 1
    return free


@kernel
def _copy(table, slot, n, hashes, q, visits, masks):
    hashes[n] = table.hashes[slot].hash
    for a in range(q.shape[1]):
        q[n, a] = table.q[slot, a]
    for a in range(visits.shape[1]):
        visits[n, a] = table.visits[slot, a]
    for k in range(masks.shape[1]):
        masks[n, k] = table.masks[slot, k]


@kernel
def gather(table, slot, hashes, q, visits, masks):
    """Copy live rows from `slot` on until the output is full; return (rows, next slot)."""
    n = 0
    last = table.hashes.shape[0] - 1
    # What an empty slot holds is copied, too, and overwritten: a branch would be a guess.
    while slot < last and n < hashes.size:
        _copy(table, slot, n, hashes, q, visits, masks)
        n += table.hashes[slot].hash != MAX_HASH
        slot += 1
    if slot == last and n < hashes.size:
        if table.state[HAS_MAX]:
            _copy(table, slot, n, hashes, q, visits, masks)
            n += 1
        slot += 1
    return n, slot


@kernel
def scatter(table, hashes, q, visits, masks):
    """Insert rows given in hash order; return how many fitted."""
    for i in range(hashes.size):
        slot = insert(table, hashes[i])
        if slot < 0:
            return i
        for a in range(q.shape[1]):
            table.q[slot, a] = q[i, a]
        for a in range(visits.shape[1]):
            table.visits[slot, a] = visits[i, a]
        for k in range(masks.shape[1]):
            table.masks[slot, k] = masks[i, k]
    return hashes.size
