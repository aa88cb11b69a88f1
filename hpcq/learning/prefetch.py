"""Bringing the rows of messages near before they are read: pipelines of prefetches.

Rows lie anywhere in memory. A kernel that walks through messages in blocks asks for what later ones
need, and comes to each row when it is there.

A state is asked for when it is entered and updated two ticks later, when its action's outcome is
known. So the owner notes where it has found the rows of a tick's queries: with returns of one step
the updates of the next tick but one are of the same states, in the same order. What is noted is
never more than a hint: rows may have moved, and updates may be of others.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK
from hpcq.jit.compiler import inlined, kernel, template
from hpcq.jit.memory import prefetch, prefetch_to_read
from hpcq.table.hash_table import home_slot

# Records whose cache lines are asked for in one go: fewer than a core can have under way (24 on Zen
# 4; with 32 it stood still), but together they come faster than each asked for by itself. LEAD: how
# far each step of the pipeline is ahead of the next. PLACES: a power of two, room for all records
# in the pipeline.
BLOCK = 16
PREFETCH_DISTANCE = 32
RING_SIZE = 128
RING, EVERY = np.uint64(RING_SIZE - 1), np.uint64(MASK)
# Messages of another rank are in its cache; the processor's own look-ahead is too short for that.
_READ_AHEAD = np.uint64(32)


class SlotHints(NamedTuple):
    """Where the rows of the queries of a tick were found, source after source."""

    slots: NDArray[np.uint64]
    """(n,), of this table, or of it before it grew"""
    starts: NDArray[np.int64]
    """(sources,), where in `slots` those of each source begin"""


def empty_hints(sources: int, queries: int = 0) -> SlotHints:
    """Return room for so many queries."""
    return SlotHints(np.zeros(queries, np.uint64), np.zeros(sources, np.int64))


@inlined
def _span(start, stop):
    """Return the range of unsigned numbers: as an index, one need not be checked for its sign."""
    return range(np.uint64(start), np.uint64(stop))


@inlined
def clamp(value, least, most):
    """Return what of `least` ... `most` is nearest to `value`."""
    return min(max(value, least), most)


@template
def prefetch_rows(hashes, ranks, buckets, box, block, start, end, places, on, mask):
    """Bring the rows of the messages `start` ... `end` - 1 near, in three steps of a pipeline.

    The lines of `block` are asked for; those of the block LEAD before have come meanwhile: if a row
    is not there, the line after is asked for. The rows of the block 2 LEAD before are at hand then.
    No step branches on what it reads.

    places     uint64, in and out: slots from which the rows are at most a short probe away
    on, mask   uint64: message i has ``places[(i + on) & mask]``

    Returns the range of the messages whose rows are at hand.
    """
    for i in _span(min(end, block), min(end, block + BLOCK)):
        slot = np.uint64(home_slot(box[i].hash, ranks, buckets, WIDTH))
        places[(i + on) & mask] = slot
        prefetch(hashes, slot)
        prefetch_to_read(box, i + _READ_AHEAD)
    block -= PREFETCH_DISTANCE
    for i in _span(clamp(block, start, end), clamp(block + BLOCK, start, end)):
        slot = places[(i + on) & mask]
        hash_ = box[i].hash
        ahead = np.uint64(0)
        for k in range(WIDTH):
            ahead += np.uint64(hashes[slot + np.uint64(k)].hash < hash_)
        places[(i + on) & mask] = slot + ahead
        prefetch(hashes, slot + ahead)
    block -= PREFETCH_DISTANCE
    return _span(clamp(block, start, end), clamp(block + BLOCK, start, end))


@kernel
def hints_valid(hashes, hints, source, box, start, updates):
    """Return whether a source's updates, from `start` on, may be of the rows that were `hints`.

    They are if the last one is where it was seen, but for rows that have moved: updates follow each
    other as the queries did.
    """
    last = hints.starts[source] + updates - 1
    if updates == 0 or last >= hints.slots.size:
        return False
    return hashes[hints.slots[last]].hash == box[start + updates - 1].hash


@inlined
def prefetch_hinted(hashes, box, block, start, end, places, on):
    """Prefetch rows as `prefetch_rows` does, from hints that `hints_valid` accepts."""
    for i in _span(min(end, block), min(end, block + BLOCK)):
        prefetch(hashes, places[i + on])
        prefetch_to_read(box, i + _READ_AHEAD)
    block -= 2 * PREFETCH_DISTANCE
    return _span(clamp(block, start, end), clamp(block + BLOCK, start, end))
