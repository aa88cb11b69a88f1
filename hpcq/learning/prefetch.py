"""Bringing rows into the cache before they are read: a software pipeline of prefetches.

Rows lie anywhere in memory. A kernel that walks through messages in blocks prefetches the lines of
later ones, and finds each row in the cache when it comes to it.

A state is queried when it is entered and updated two ticks later, when the outcome of its action is
known. So the owner keeps the slots at which it found the rows of a tick's queries: with returns of
one step the updates of the next tick but one concern the same states, in the same order. These
slots are hints and no more: rows may have moved, and updates may concern other states.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import prefetch, prefetch_to_read
from hpcq.table.hash_table import home_slot

# Messages whose cache lines are prefetched together: below the outstanding misses that a core
# sustains (24 on Zen 4; 32 stalled it), yet faster than one at a time.
BLOCK = 16
# How far each stage of the pipeline is ahead of the next, in messages.
PREFETCH_DISTANCE = 32
# A power of two, room for all messages in the pipeline.
RING_SIZE = 128
RING, EVERY = np.uint64(RING_SIZE - 1), np.uint64(MASK)
# Messages of another rank are in its cache: farther than the hardware prefetcher looks ahead.
_MESSAGES_AHEAD = np.uint64(32)


class SlotHints(NamedTuple):
    """The slots at which the rows of one tick's queries were found, source after source."""

    slots: NDArray[np.uint64]
    """(n,), of this table, or of it before it grew"""
    starts: NDArray[np.int64]
    """(sources,), where in `slots` those of each source begin"""


def empty_hints(sources: int, queries: int = 0) -> SlotHints:
    """Return hints with room for so many queries."""
    return SlotHints(np.zeros(queries, np.uint64), np.zeros(sources, np.int64))


@inlined
def _span(start: int, stop: int) -> range:
    """Return the range of unsigned numbers: as an index, one need not be checked for its sign."""
    return range(np.uint64(start), np.uint64(stop))


@inlined
def clamp(value: int, low: int, high: int) -> int:
    """Return `value` limited to `low` ... `high`."""
    return min(max(value, low), high)


def make_prefetch_rows(width: int) -> Any:
    """Return the kernel `prefetch_rows` for buckets of `width` slots."""

    @inlined
    def prefetch_rows(
        hashes: Any,
        ranks: np.uint64,
        buckets: np.uint64,
        box: Any,
        block: int,
        start: int,
        end: int,
        slots: NDArray[np.uint64],
        offset: np.uint64,
        mask: np.uint64,
    ) -> range:
        """Prefetch the rows of the messages `start` ... `end` - 1, in a pipeline of three stages.

        The home lines of `block` are prefetched. Those of the block PREFETCH_DISTANCE before have
        arrived: where the row is further on, its line is prefetched. The rows of the block
        2 PREFETCH_DISTANCE before are at hand. No stage branches on what it reads.

        slots          in and out: slots from which the rows are at most a short probe away
        offset, mask   message i has ``slots[(i + offset) & mask]``

        Returns the range of the messages whose rows are at hand.
        """
        for i in _span(min(end, block), min(end, block + BLOCK)):
            slot = np.uint64(home_slot(box[i].hash, ranks, buckets, width))
            slots[(i + offset) & mask] = slot
            prefetch(hashes, slot)
            prefetch_to_read(box, i + _MESSAGES_AHEAD)
        block -= PREFETCH_DISTANCE
        for i in _span(clamp(block, start, end), clamp(block + BLOCK, start, end)):
            slot = slots[(i + offset) & mask]
            hash_ = box[i].hash
            ahead = np.uint64(0)
            for k in range(width):
                ahead += np.uint64(hashes[slot + np.uint64(k)].hash < hash_)
            slots[(i + offset) & mask] = slot + ahead
            prefetch(hashes, slot + ahead)
        block -= PREFETCH_DISTANCE
        return _span(clamp(block, start, end), clamp(block + BLOCK, start, end))

    return prefetch_rows


@kernel
def hints_valid(
    hashes: Any, hints: SlotHints, source: int, box: Any, start: int, updates: int
) -> bool:
    """Return whether a source's updates, from `start` on, concern the rows of the hints.

    They do if the last one does, but for rows that have moved: updates follow each other as the
    queries did.
    """
    last = hints.starts[source] + updates - 1
    if updates == 0 or last >= hints.slots.size:
        return False
    return hashes[hints.slots[last]].hash == box[start + updates - 1].hash


@inlined
def prefetch_hinted(
    hashes: Any,
    box: Any,
    block: int,
    start: int,
    end: int,
    slots: NDArray[np.uint64],
    offset: np.uint64,
) -> range:
    """Prefetch rows as `prefetch_rows` does, from hints that `hints_valid` accepts."""
    for i in _span(min(end, block), min(end, block + BLOCK)):
        prefetch(hashes, slots[i + offset])
        prefetch_to_read(box, i + _MESSAGES_AHEAD)
    block -= 2 * PREFETCH_DISTANCE
    return _span(clamp(block, start, end), clamp(block + BLOCK, start, end))
