"""The rows of one rank: a hash table in hash order.

Ordered open addressing with linear probing (Amble and Knuth, "Ordered hash tables", The
Computer Journal 17(2), 1974). A row's home is a bucket: as many slots as fill a cache line. Homes
are monotone in the hash and there is no wrap-around, so rows are in hash order: growing, saving
and loading are single passes, and a search for an absent hash ends at the first larger one.

An empty slot holds the largest hash. The one state that really has this hash has a slot of its
own, the last, and a flag for its presence.

Hash and Q-values of a row are adjacent in memory; kernels see them as two contiguous arrays a few
bytes apart. The array of hashes has records as long as a row: the length is a constant to the
compiler, and the address of a row takes a shift, not a multiplication. Visit counts and masks,
where kept, are separate arrays.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MAX_HASH, home_bucket
from hpcq.jit.compiler import inlined, kernel

_ONE = np.uint64(1)

# Indices of `Table.state`: rows present, whether the row of MAX_HASH is, most rows before growth.
ROWS, HAS_MAX, LIMIT = 0, 1, 2


class Table(NamedTuple):
    """The arrays of a shard as kernels see them."""

    hashes: NDArray[np.void]
    """(slots,), records of a row's length in which only `hash` (uint64) is named"""
    q: NDArray[np.floating]
    """(slots, values in a record), of which the columns 0 ... `columns` - 1 are used"""
    visits: NDArray[np.uint32]
    """(slots, columns), or (slots, 0) where visits are not counted"""
    masks: NDArray[np.uint64]
    """(slots, words), the legal actions as a bitset, words = 0 where there are no masks"""
    state: NDArray[np.int64]
    """(3,): ROWS, HAS_MAX, LIMIT"""
    ranks: np.uint64
    buckets: np.uint64
    width: int
    """slots of a bucket"""
    columns: int
    """Q-values of a row: actions times tables of the rule"""
    q_init: float


@inlined
def home_slot(hash_: np.uint64, ranks: np.uint64, buckets: np.uint64, width: int) -> int:
    """Return the first slot of a hash's bucket."""
    bucket: Any = np.int64(home_bucket(hash_, ranks, buckets))
    return bucket * width


@inlined
def probe(hashes: Any, slot: np.uint64, hash_: np.uint64) -> np.uint64:
    """Return the slot of a hash if it has a row, which `holds` tells.

    `slot` is its home slot, or a later one.
    """
    if hash_ == MAX_HASH:
        return np.uint64(hashes.shape[0] - 1)
    while hashes[slot].hash < hash_:
        slot += _ONE
    return slot


@inlined
def holds(hashes: Any, state: NDArray[np.int64], slot: np.uint64, hash_: np.uint64) -> bool:
    """Return whether the row of a hash is in a slot."""
    return hashes[slot].hash == hash_ and (hash_ != MAX_HASH or state[HAS_MAX] != 0)


@kernel
def find(table: Table, hash_: np.uint64) -> int:
    """Return the slot of a hash, or -1 where it has no row."""
    home = home_slot(hash_, table.ranks, table.buckets, table.width)
    slot = probe(table.hashes, np.uint64(home), hash_)
    found: Any = np.int64(slot)
    return found if holds(table.hashes, table.state, slot, hash_) else -1


@inlined
def _clear(table: Any, slot: np.uint64, hash_: np.uint64) -> None:
    table.hashes[slot].hash = hash_
    for a in range(table.columns):
        table.q[slot, a] = table.q_init
    for a in range(table.visits.shape[1]):
        table.visits[slot, a] = 0
    for k in range(table.masks.shape[1]):
        table.masks[slot, k] = 0
    table.state[ROWS] += 1


@inlined
def move(source: Any, old: Any, target: Any, new: Any) -> None:
    """Copy the row in slot `old` to slot `new` of `target`."""
    target.hashes[new] = source.hashes[old]
    for a in range(source.visits.shape[1]):
        target.visits[new, a] = source.visits[old, a]
    for k in range(source.masks.shape[1]):
        target.masks[new, k] = source.masks[old, k]


@inlined
def insert_at(table: Any, slot: np.uint64, hash_: np.uint64) -> bool:
    """Make a row for a hash that has none, in the slot where `probe` ended; False: no room."""
    hashes, last = table.hashes, np.uint64(table.hashes.shape[0] - 1)
    if table.state[ROWS] >= table.state[LIMIT] and hash_ != MAX_HASH:
        return False
    if hash_ == MAX_HASH:
        table.state[HAS_MAX] = 1
    else:
        # The two last slots are reserved: one is empty and ends every search, one is for MAX_HASH.
        end = slot
        while hashes[end].hash != MAX_HASH:
            end += _ONE
        if end >= last - _ONE:
            return False
        while end > slot:
            move(table, end - _ONE, table, end)
            end -= _ONE
    _clear(table, slot, hash_)
    return True


@inlined
def insert(table: Any, hash_: np.uint64) -> int:
    """Return the slot of a hash, with a new row if it has none; -1 if the shard is full."""
    home = home_slot(hash_, table.ranks, table.buckets, table.width)
    slot = probe(table.hashes, np.uint64(home), hash_)
    if not holds(table.hashes, table.state, slot, hash_) and not insert_at(table, slot, hash_):
        return -1
    found: Any = np.int64(slot)
    return found


@kernel
def end_with(table: Any, buckets: np.uint64) -> int:
    """Return the slot after the last row in a table of so many buckets."""
    free = 0
    for i in range(table.hashes.shape[0] - 1):
        hash_ = table.hashes[i].hash
        if hash_ != MAX_HASH:
            free = max(free, home_slot(hash_, table.ranks, buckets, table.width)) + 1
    return free


@kernel
def empty(table: Any, start: int, stop: int) -> None:
    """Empty the slots `start` ... `stop` - 1."""
    for slot in range(start, stop):
        table.hashes[slot].hash = MAX_HASH


@kernel
def move_all(source: Any, start: int, stop: int, target: Any, free: int) -> int:
    """Move the rows in the slots `start` ... `stop` - 1 to `target`, from its slot `free` on.

    Returns its first free slot after them. The two last slots of both tables are left alone.
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
def _copy(
    table: Any, slot: int, n: int, hashes: NDArray, q: NDArray, visits: NDArray, masks: NDArray
) -> None:
    hashes[n] = table.hashes[slot].hash
    for a in range(q.shape[1]):
        q[n, a] = table.q[slot, a]
    for a in range(visits.shape[1]):
        visits[n, a] = table.visits[slot, a]
    for k in range(masks.shape[1]):
        masks[n, k] = table.masks[slot, k]


@kernel
def gather(
    table: Any, slot: int, hashes: NDArray, q: NDArray, visits: NDArray, masks: NDArray
) -> tuple[int, int]:
    """Copy live rows from `slot` on until the output is full; return (rows, next slot)."""
    n = 0
    last = table.hashes.shape[0] - 1
    # Empty slots are copied, too, and overwritten by the next: a branch would be mispredicted.
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
def scatter(table: Any, hashes: NDArray, q: NDArray, visits: NDArray, masks: NDArray) -> int:
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
