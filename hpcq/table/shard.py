"""The rows of one rank: a hash table kept in hash order.

Ordered open addressing with linear probing (Amble and Knuth, "Ordered hash tables", The
Computer Journal 17(2), 1974). A row's home is a bucket: as many slots as fill a cache line. Homes
are monotone in the hash and there is no wrap-around, so the rows stand in hash order: growing,
saving and loading are single passes, and a search for an absent hash ends at the first larger one.

An empty slot holds the largest hash. The one state that really has this hash has a slot of its
own, the last, and a flag that says whether it is there.

Hashes and Q-values of a row are neighbours in memory (one record); kernels see them as two
contiguous arrays a few bytes apart. Visit counts, where kept, stand in an array of their own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK, MAX_HASH, home_bucket
from hpcq.native.kernels import kernel
from hpcq.native.memory import allocate, release

MAX_LOAD = 0.54
MIN_CAPACITY = 64

# Runs of probes end well within this many slots after the last bucket.
_TAIL = 64

# Slots moved between two releases of what growth has left behind.
_GROWTH_PIECE = 1 << 20

NOWHERE = np.uint64(MASK)
_ONE = np.uint64(1)

# Places in the state array that the kernels share with the class.
ROWS, HAS_MAX, LIMIT = 0, 1, 2


class Table(NamedTuple):
    """The arrays of a shard as kernels see them."""

    hashes: NDArray[np.uint64]
    """(slots, words of a record): column 0"""
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
def probe(hashes, state, slot, hash_):
    """Return the slot of a hash, or NOWHERE; `slot` (uint64) is its home or further on."""
    if hash_ == MAX_HASH:
        return np.uint64(hashes.shape[0] - 1) if state[HAS_MAX] else NOWHERE
    while hashes[slot, 0] < hash_:
        slot += _ONE
    return slot if hashes[slot, 0] == hash_ else NOWHERE


@kernel
def find(table, hash_):
    """Return the slot of a hash, or -1 where it has no row."""
    slot = home_slot(hash_, table.ranks, table.buckets, table.width)
    return np.int64(probe(table.hashes, table.state, np.uint64(slot), hash_))


@kernel
def _clear(table, slot, hash_):
    table.hashes[slot, 0] = hash_
    for a in range(table.columns):
        table.q[slot, a] = table.q_init
    for a in range(table.visits.shape[1]):
        table.visits[slot, a] = 0
    for k in range(table.masks.shape[1]):
        table.masks[slot, k] = 0
    table.state[ROWS] += 1


@kernel
def _move(source, old, target, new):
    target.hashes[new, 0] = source.hashes[old, 0]
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
    while table.hashes[slot, 0] < hash_:
        slot += 1
    if table.hashes[slot, 0] == hash_:
        return slot
    # The two last slots stay out of reach: one empty, where every search ends, one for MAX_HASH.
    end = slot
    while table.hashes[end, 0] != MAX_HASH:
        end += 1
    if table.state[ROWS] >= table.state[LIMIT] or end >= last - 1:
        return -1
    for i in range(end, slot, -1):
        _move(table, i - 1, table, i)
    _clear(table, slot, hash_)
    return slot


@kernel
def _end_with(table, buckets):
    """Return the slot after the last row, were there so many buckets."""
    free = 0
    for i in range(table.hashes.shape[0] - 1):
        hash_ = table.hashes[i, 0]
        if hash_ != MAX_HASH:
            free = max(free, home_slot(hash_, table.ranks, buckets, table.width)) + 1
    return free


@kernel
def _empty(table, start, stop):
    for slot in range(start, stop):
        table.hashes[slot, 0] = MAX_HASH


@kernel
def _move_all(source, start, stop, target, free):
    """Move the rows in the slots `start` ... `stop` - 1 to `target`, filled up to slot `free`.

    Returns up to where it is filled then. The two last slots of either are not for this.
    """
    for i in range(start, stop):
        hash_ = source.hashes[i, 0]
        if hash_ != MAX_HASH:
            slot = max(free, home_slot(hash_, target.ranks, target.buckets, target.width))
            _empty(target, free, slot)
            _move(source, i, target, slot)
            free = slot + 1
    return free


@kernel
def _copy(table, slot, n, hashes, q, visits, masks):
    hashes[n] = table.hashes[slot, 0]
    for a in range(q.shape[1]):
        q[n, a] = table.q[slot, a]
    for a in range(visits.shape[1]):
        visits[n, a] = table.visits[slot, a]
    for k in range(masks.shape[1]):
        masks[n, k] = table.masks[slot, k]


@kernel
def _gather(table, slot, hashes, q, visits, masks):
    """Copy live rows from `slot` on until the output is full; return (rows, next slot)."""
    n = 0
    last = table.hashes.shape[0] - 1
    # What an empty slot holds is copied, too, and overwritten: a branch would be a guess.
    while slot < last and n < hashes.size:
        _copy(table, slot, n, hashes, q, visits, masks)
        n += table.hashes[slot, 0] != MAX_HASH
        slot += 1
    if slot == last and n < hashes.size:
        if table.state[HAS_MAX]:
            _copy(table, slot, n, hashes, q, visits, masks)
            n += 1
        slot += 1
    return n, slot


@kernel
def _scatter(table, hashes, q, visits, masks):
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


def _record_bytes(useful: int) -> int:
    """Return the size of a record: whole cache lines (or half a line) where little is wasted.

    With `MAX_LOAD`, at least 0.4 of a full table are useful bytes.
    """
    exact = -(-useful // 8) * 8
    padded = 32 if exact <= 32 else -(-exact // 64) * 64
    return padded if useful >= 0.75 * padded else exact


class Shard:
    """The rows that one of `ranks` ranks owns.

    Parameters
    ----------
    ranks
        number of ranks that share the table; only decides the slots.
    columns
        Q-values per row.
    dtype
        float32 or float64.
    q_init
        what an absent row reads as, and every Q-value of a new row.
    visits
        whether to count visits per Q-value: uint32, saturating.
    masks
        whether to keep the legal actions of every row.
    """

    def __init__(
        self,
        ranks: int,
        columns: int,
        dtype: np.dtype,
        q_init: float = 0.0,
        visits: bool = False,
        masks: bool = False,
    ) -> None:
        self.ranks = ranks
        self.columns = columns
        self.dtype = np.dtype(dtype)
        self.q_init = self.dtype.type(q_init)
        self.keeps_visits = visits
        self.keeps_masks = masks
        self.table = self._allocate_empty(MIN_CAPACITY)

    def __len__(self) -> int:
        return int(self.table.state[ROWS])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.table.hashes.nbytes + self.table.visits.nbytes + self.table.masks.nbytes

    def _allocate(self, buckets: int) -> Table:
        """Return a table whose slots are not initialised."""
        record = _record_bytes(8 + self.columns * self.dtype.itemsize)
        width = max(1, 64 // record)
        slots = buckets * width + _TAIL + 2
        memory = allocate(slots * record + 8)
        visit_bytes = 4 * slots * self.columns if self.keeps_visits else 0
        mask_bytes = 8 * slots if self.keeps_masks else 0
        return Table(
            memory[:-8].view(np.uint64).reshape(slots, record // 8),
            memory[8:].view(self.dtype).reshape(slots, record // self.dtype.itemsize),
            allocate(visit_bytes).view(np.uint32).reshape(slots, -1 if visit_bytes else 0),
            allocate(mask_bytes).view(np.uint64).reshape(slots, -1 if mask_bytes else 0),
            np.array([0, 0, int(buckets * width * MAX_LOAD)], np.int64),
            np.uint64(self.ranks),
            np.uint64(buckets),
            width,
            self.columns,
            self.q_init,
        )

    def _allocate_empty(self, capacity: int) -> Table:
        """Return an empty table of at least `capacity` slots."""
        width = self._allocate(1).width
        table = self._allocate(-(-capacity // width))
        _empty(table, 0, table.hashes.shape[0])
        return table

    def grow(self) -> None:
        """Double the capacity, in one pass; what has moved is released on the way."""
        old = self.table
        slots = old.hashes.shape[0]
        buckets = int(old.buckets) * 2
        while _end_with(old, np.uint64(buckets)) > buckets * old.width + _TAIL:
            buckets *= 2
        new = self._allocate(buckets)
        free = 0
        for start in range(0, slots - 2, _GROWTH_PIECE):
            stop = min(start + _GROWTH_PIECE, slots - 2)
            free = _move_all(old, start, stop, new, free)
            release(old.hashes[:stop])
            release(old.visits[:stop])
            release(old.masks[:stop])
        _empty(new, free, new.hashes.shape[0])
        if old.state[HAS_MAX]:
            _move(old, slots - 1, new, new.hashes.shape[0] - 1)
        new.state[:LIMIT] = old.state[:LIMIT]
        self.table = new

    def memory_for(self, rows: int) -> tuple[int, int]:
        """Return the bytes held with so many rows, and the most held on the way there."""
        slot = self.nbytes / self.table.hashes.shape[0]
        capacity, before, held = int(self.table.buckets) * self.table.width, 0, self.nbytes
        while int(capacity * MAX_LOAD) < rows:
            capacity *= 2
            before, held = held, int((capacity + _TAIL + 2) * slot)
        # Growth releases what it has moved, a piece at a time: of the old table no more than that.
        return held, held + min(before, int(_GROWTH_PIECE * slot))

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, at once; the shard must be empty."""
        capacity = int(rows / MAX_LOAD) + 1
        if len(self) == 0 and capacity > int(self.table.buckets) * self.table.width:
            self.table = self._allocate_empty(capacity)

    def pieces(self, rows: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        """Yield all rows in hash order, at most `rows` at a time: hashes, q, visits.

        The arrays are reused from one piece to the next.
        """
        for hashes, q, visits, _ in self.pieces_with_masks(rows):
            yield hashes, q, visits

    def pieces_with_masks(self, rows: int) -> Iterator[tuple[NDArray, ...]]:
        """Yield as `pieces` does, and the masks: uint64 (n, 1), or (n, 0) where there are none."""
        rows = max(1, min(rows, len(self)))
        hashes = np.empty(rows, np.uint64)
        q = np.empty((rows, self.columns), self.dtype)
        visits = np.empty((rows, self.table.visits.shape[1]), np.uint32)
        masks = np.empty((rows, self.table.masks.shape[1]), np.uint64)
        slot, left = 0, len(self)
        # Empty slots after the last row would be copied over it.
        while left:
            n, slot = _gather(self.table, slot, hashes, q, visits, masks)
            left -= n
            yield hashes[:n], q[:n], visits[:n], masks[:n]

    def load(
        self, hashes: NDArray, q: NDArray, visits: NDArray, masks: NDArray | None = None
    ) -> None:
        """Add rows.

        Parameters
        ----------
        hashes
            uint64 (n,)
        q
            (n, columns)
        visits
            uint32 (n, columns), or (n, 0)
        masks
            uint64 (n, 1), or (n, 0); default: the latter, and rows get a mask of 0
        """
        if masks is None:
            masks = np.empty((hashes.size, 0), np.uint64)
        done = 0
        while True:
            done += _scatter(self.table, hashes[done:], q[done:], visits[done:], masks[done:])
            if done == hashes.size:
                return
            self.grow()

    def row(self, hash_: int) -> NDArray[np.floating]:
        """Return a copy of the Q-values of one state; `q_init` where it has no row."""
        slot = find(self.table, np.uint64(hash_))
        if slot < 0:
            return np.full(self.columns, self.q_init)
        return self.table.q[slot, : self.columns].copy()
