"""The rows of one rank: a hash table kept in hash order.

Ordered open addressing with linear probing (Amble and Knuth, "Ordered hash tables", The
Computer Journal 17(2), 1974). The home slot is monotone in the hash and there is no wrap-around,
so the rows stand in hash order: growing, saving and loading are single passes, and a search for
an absent hash ends at the first larger one.

An empty slot holds the largest hash. The one state that really has this hash has a slot of its
own, the last, and a flag that says whether it is there.

Hashes and Q-values of a row are neighbours in memory (one record); kernels see them as two
strided arrays, ``hashes`` (slots,) and ``q`` (slots, actions). Visit counts, where kept, stand
in an array of their own; where not, it has no columns.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MAX_HASH, home_slot
from hpcq.kernels import kernel
from hpcq.memory import allocate

MAX_LOAD = 0.54
MIN_CAPACITY = 64

# Runs of probes end well within this many slots after the last home slot.
_TAIL = 64

# Places in the state array that the kernels share with the class.
ROWS, HAS_MAX, LIMIT = 0, 1, 2


class Table(NamedTuple):
    """The arrays of a shard as kernels see them. See the module's text for the shapes."""

    hashes: NDArray[np.uint64]
    q: NDArray[np.floating]
    visits: NDArray[np.uint32]
    state: NDArray[np.int64]
    ranks: np.uint64
    capacity: np.uint64
    q_init: float


@kernel
def probe(hashes, state, ranks, capacity, hash_):
    """Return the slot of a hash, or -1 where it has no row; takes the parts of a table."""
    if hash_ == MAX_HASH:
        return hashes.size - 1 if state[HAS_MAX] else -1
    slot = np.int64(home_slot(hash_, ranks, capacity))
    while hashes[slot] < hash_:
        slot += 1
    return slot if hashes[slot] == hash_ else -1


@kernel
def find(table, hash_):
    """Return the slot of a hash, or -1 where it has no row."""
    return probe(table.hashes, table.state, table.ranks, table.capacity, hash_)


@kernel
def _clear(table, slot, hash_):
    table.hashes[slot] = hash_
    for a in range(table.q.shape[1]):
        table.q[slot, a] = table.q_init
    for a in range(table.visits.shape[1]):
        table.visits[slot, a] = 0
    table.state[ROWS] += 1


@kernel
def _move(source, old, target, new):
    target.hashes[new] = source.hashes[old]
    for a in range(source.q.shape[1]):
        target.q[new, a] = source.q[old, a]
    for a in range(source.visits.shape[1]):
        target.visits[new, a] = source.visits[old, a]


@kernel
def insert(table, hash_):
    """Return the slot of a hash, making its row where there is none; -1 if the shard is full."""
    if hash_ == MAX_HASH:
        last = table.hashes.size - 1
        if not table.state[HAS_MAX]:
            table.state[HAS_MAX] = 1
            _clear(table, last, hash_)
        return last
    slot = np.int64(home_slot(hash_, table.ranks, table.capacity))
    while table.hashes[slot] < hash_:
        slot += 1
    if table.hashes[slot] == hash_:
        return slot
    # The two last slots stay out of reach: one empty, where every search ends, one for MAX_HASH.
    end = slot
    while table.hashes[end] != MAX_HASH:
        end += 1
    if table.state[ROWS] >= table.state[LIMIT] or end >= table.hashes.size - 2:
        return -1
    for i in range(end, slot, -1):
        _move(table, i - 1, table, i)
    _clear(table, slot, hash_)
    return slot


@kernel
def _copy_all(source, target):
    """Copy every row into an empty, larger table in one pass; return whether they fitted."""
    free = 0
    last = source.hashes.size - 1
    for i in range(last):
        hash_ = source.hashes[i]
        if hash_ == MAX_HASH:
            continue
        slot = max(free, np.int64(home_slot(hash_, target.ranks, target.capacity)))
        if slot >= target.hashes.size - 2:
            return False
        _move(source, i, target, slot)
        free = slot + 1
    if source.state[HAS_MAX]:
        _move(source, last, target, target.hashes.size - 1)
    target.state[ROWS] = source.state[ROWS]
    target.state[HAS_MAX] = source.state[HAS_MAX]
    return True


@kernel
def _gather(table, slot, hashes, q, visits):
    """Copy live rows from `slot` on until the output is full; return (rows, next slot)."""
    n = 0
    last = table.hashes.size - 1
    while slot <= last and n < hashes.size:
        live = table.state[HAS_MAX] == 1 if slot == last else table.hashes[slot] != MAX_HASH
        if live:
            hashes[n] = table.hashes[slot]
            for a in range(q.shape[1]):
                q[n, a] = table.q[slot, a]
            for a in range(visits.shape[1]):
                visits[n, a] = table.visits[slot, a]
            n += 1
        slot += 1
    return n, slot


@kernel
def _scatter(table, hashes, q, visits):
    """Insert rows given in hash order; return how many fitted."""
    for i in range(hashes.size):
        slot = insert(table, hashes[i])
        if slot < 0:
            return i
        for a in range(q.shape[1]):
            table.q[slot, a] = q[i, a]
        for a in range(visits.shape[1]):
            table.visits[slot, a] = visits[i, a]
    return hashes.size


def _record_bytes(exact: int) -> int:
    """Pad a record to whole cache lines (or half a line) where that wastes little."""
    padded = 32 if exact <= 32 else -(-exact // 64) * 64
    return padded if exact >= 0.7 * padded else exact


class Shard:
    """The rows that one of `ranks` ranks owns.

    Parameters
    ----------
    ranks
        number of ranks that share the table; only decides the slots.
    actions
        Q-values per row.
    dtype
        float32 or float64.
    q_init
        what an absent row reads as, and every Q-value of a new row.
    visits
        whether to count visits per (state, action): uint32, saturating.
    """

    def __init__(
        self,
        ranks: int,
        actions: int,
        dtype: np.dtype,
        q_init: float = 0.0,
        visits: bool = False,
    ) -> None:
        self.ranks = ranks
        self.actions = actions
        self.dtype = np.dtype(dtype)
        self.q_init = self.dtype.type(q_init)
        self.keeps_visits = visits
        self.table = self._allocate(MIN_CAPACITY)

    def __len__(self) -> int:
        return int(self.table.state[ROWS])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        table = self.table
        return table.hashes.size * table.hashes.strides[0] + table.visits.nbytes

    def _allocate(self, capacity: int) -> Table:
        slots = capacity + _TAIL + 2
        exact = 8 + -(-self.actions * self.dtype.itemsize // 8) * 8
        record = _record_bytes(exact)
        records = allocate(slots * record).reshape(slots, record)
        hashes = records[:, :8].view(np.uint64)[:, 0]
        hashes[:] = MAX_HASH
        q_bytes = self.actions * self.dtype.itemsize
        q = records[:, 8 : 8 + q_bytes].view(self.dtype)
        visits = np.zeros((slots, self.actions if self.keeps_visits else 0), np.uint32)
        state = np.array([0, 0, int(capacity * MAX_LOAD)], np.int64)
        return Table(
            hashes, q, visits, state, np.uint64(self.ranks), np.uint64(capacity), self.q_init
        )

    def grow(self) -> None:
        """Double the capacity. The old table and the new one are both in memory meanwhile."""
        capacity = int(self.table.capacity)
        while True:
            capacity *= 2
            larger = self._allocate(capacity)
            if _copy_all(self.table, larger):
                self.table = larger
                return

    def memory_for(self, rows: int) -> tuple[int, int]:
        """Return the bytes held with so many rows, and the most held on the way there."""
        slot = self.nbytes / self.table.hashes.size
        capacity, held, peak = int(self.table.capacity), self.nbytes, self.nbytes
        while int(capacity * MAX_LOAD) < rows:
            capacity *= 2
            before, held = held, int((capacity + _TAIL + 2) * slot)
            peak = before + held
        return held, peak

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, at once; the shard must be empty."""
        capacity = int(rows / MAX_LOAD) + 1
        if len(self) == 0 and capacity > int(self.table.capacity):
            self.table = self._allocate(capacity)

    def pieces(self, rows: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        """Yield all rows in hash order, at most `rows` at a time: hashes, q, visits.

        The arrays are reused from one piece to the next.
        """
        rows = max(1, min(rows, len(self)))
        hashes = np.empty(rows, np.uint64)
        q = np.empty((rows, self.actions), self.dtype)
        visits = np.empty((rows, self.table.visits.shape[1]), np.uint32)
        slot = 0
        while slot < self.table.hashes.size:
            n, slot = _gather(self.table, slot, hashes, q, visits)
            if n:
                yield hashes[:n], q[:n], visits[:n]

    def load(self, hashes: NDArray, q: NDArray, visits: NDArray) -> None:
        """Add rows: hashes uint64 (n,), q (n, actions), visits uint32 (n, actions) or (n, 0)."""
        done = 0
        while True:
            done += _scatter(self.table, hashes[done:], q[done:], visits[done:])
            if done == hashes.size:
                return
            self.grow()

    def row(self, hash_: int) -> NDArray[np.floating]:
        """Return a copy of the Q-values of one state; `q_init` where it has no row."""
        slot = find(self.table, np.uint64(hash_))
        if slot < 0:
            return np.full(self.actions, self.q_init)
        return self.table.q[slot].copy()
