"""The shard of one rank: rows (see hash_table.py) in memory that grows with them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.memory import allocate, release
from hpcq.table.hash_table import (
    HAS_MAX,
    LIMIT,
    ROWS,
    Table,
    empty,
    end_with,
    find,
    gather,
    move,
    move_all,
    scatter,
)

MAX_LOAD = 0.54
MIN_CAPACITY = 64

# Slots after the last bucket, many more than a run of probes needs.
_TAIL = 64

# Slots that growth moves before it releases their old memory.
_GROWTH_PIECE = 1 << 20


def _record_bytes(useful: int) -> int:
    """Return the size of a record: whole cache lines, or half a line, where that wastes little.

    With `MAX_LOAD`, at least 0.4 of a full table are useful bytes.
    """
    exact = -(-useful // 8) * 8
    padded = 32 if exact <= 32 else -(-exact // 64) * 64
    return padded if useful >= 0.75 * padded else exact


def _hash_record(nbytes: int) -> np.dtype:
    """Return the type of a row of so many bytes, in which only the hash is named."""
    return np.dtype({"names": ["hash"], "formats": ["u8"], "itemsize": nbytes})


class Shard:
    """The rows that one of `ranks` ranks owns.

    Parameters
    ----------
    ranks
        ranks that share the table; placement only, never results.
    columns
        Q-values of a row: actions times tables of the rule.
    dtype
        float32 or float64.
    q_init
        every Q-value of a new row, and of an absent one.
    visits
        whether to count visits per Q-value: uint32, saturating.
    masks
        uint64 of a mask of legal actions, which every row has; 0: none.
    sums
        numbers of the same type behind the Q-values of a row, which who inserts it begins.
    """

    def __init__(
        self,
        ranks: int,
        columns: int,
        dtype: np.dtype,
        q_init: float = 0.0,
        visits: bool = False,
        masks: int = 0,
        sums: int = 0,
    ) -> None:
        self.ranks = ranks
        self.columns, self.sums = columns, sums
        self.dtype = np.dtype(dtype)
        self.q_init = self.dtype.type(q_init)
        self.keeps_visits = visits
        self.keeps_masks, self.mask_words = masks > 0, masks
        self.table = self._allocate_empty(MIN_CAPACITY)

    def __len__(self) -> int:
        return int(self.table.state[ROWS])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.table.hashes.nbytes + self.table.visits.nbytes + self.table.masks.nbytes

    @property
    def load_factor(self) -> float:
        """Rows per place of the hash table."""
        return len(self) / self.table.hashes.shape[0]

    def _allocate(self, buckets: int) -> Table:
        """Return a table whose slots are not initialised."""
        record = _record_bytes(8 + (self.columns + self.sums) * self.dtype.itemsize)
        width = max(1, 64 // record)
        slots = buckets * width + _TAIL + 2
        memory = allocate(slots * record + 8)
        visit_bytes = 4 * slots * self.columns if self.keeps_visits else 0
        mask_bytes = 8 * slots * self.mask_words
        return Table(
            memory[:-8].view(_hash_record(record)),
            memory[8:].view(self.dtype).reshape(slots, record // self.dtype.itemsize),
            allocate(visit_bytes).view(np.uint32).reshape(slots, -1 if visit_bytes else 0),
            allocate(mask_bytes).view(np.uint64).reshape(slots, self.mask_words),
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
        empty(table, 0, table.hashes.shape[0])
        return table

    def grow(self) -> None:
        """Double the capacity in one pass that releases the old memory as it goes."""
        old = self.table
        slots = old.hashes.shape[0]
        buckets = int(old.buckets) * 2
        while end_with(old, np.uint64(buckets)) > buckets * old.width + _TAIL:
            buckets *= 2
        new = self._allocate(buckets)
        free = 0
        for start in range(0, slots - 2, _GROWTH_PIECE):
            stop = min(start + _GROWTH_PIECE, slots - 2)
            free = move_all(old, start, stop, new, free)
            release(old.hashes[:stop])
            release(old.visits[:stop])
            release(old.masks[:stop])
        empty(new, free, new.hashes.shape[0])
        if old.state[HAS_MAX]:
            move(old, slots - 1, new, new.hashes.shape[0] - 1)
        new.state[:LIMIT] = old.state[:LIMIT]
        self.table = new

    def memory_for(self, rows: int) -> tuple[int, int]:
        """Return the bytes held with so many rows, and the peak while growing to them."""
        slot = self.nbytes / self.table.hashes.shape[0]
        capacity, before, held = int(self.table.buckets) * self.table.width, 0, self.nbytes
        while int(capacity * MAX_LOAD) < rows:
            capacity *= 2
            before, held = held, int((capacity + _TAIL + 2) * slot)
        # Growth releases the old table piece by piece, so it adds one piece at most.
        return held, held + min(before, int(_GROWTH_PIECE * slot))

    def reserve(self, rows: int) -> None:
        """Allocate at once what growth to so many rows would; the shard must be empty.

        Less would be too little for the next few rows.
        """
        before = capacity = int(self.table.buckets) * self.table.width
        while int(capacity * MAX_LOAD) < rows:
            capacity *= 2
        if len(self) == 0 and capacity > before:
            self.table = self._allocate_empty(capacity)

    def pieces(self, rows: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        """Yield all rows in hash order, at most `rows` at a time: hashes, q, visits.

        The arrays are reused from one piece to the next.
        """
        for hashes, q, visits, _ in self.pieces_with_masks(rows):
            yield hashes, np.ascontiguousarray(q[:, : self.columns]), visits

    def pieces_with_masks(self, rows: int) -> Iterator[tuple[NDArray, ...]]:
        """Yield as `pieces` does, and the masks: uint64 (n, words), words = 0 without.

        q has the sums of a row behind its values.
        """
        rows = max(1, min(rows, len(self)))
        hashes = np.empty(rows, np.uint64)
        q = np.empty((rows, self.columns + self.sums), self.dtype)
        visits = np.empty((rows, self.table.visits.shape[1]), np.uint32)
        masks = np.empty((rows, self.table.masks.shape[1]), np.uint64)
        slot, left = 0, len(self)
        # Stop at the last row: `gather` would copy the empty slots after it over it.
        while left:
            n, slot = gather(self.table, slot, hashes, q, visits, masks)
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
            (n, columns + sums)
        visits
            uint32 (n, columns), or (n, 0)
        masks
            uint64 (n, words), or (n, 0), and rows get a mask of 0; default: (n, 0)
        """
        if masks is None:
            masks = np.empty((hashes.size, 0), np.uint64)
        done = 0
        while True:
            done += scatter(self.table, hashes[done:], q[done:], visits[done:], masks[done:])
            if done == hashes.size:
                return
            self.grow()

    def row(self, hash_: int) -> NDArray[np.floating]:
        """Return a copy of the Q-values of one state; `q_init` where it has no row."""
        slot = find(self.table, np.uint64(hash_))
        if slot < 0:
            return np.full(self.columns, self.q_init)
        return self.table.q[slot, : self.columns].copy()
