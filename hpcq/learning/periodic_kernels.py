"""The kernels of periodic mode: merging the ranks' local rows, and loading the result."""

import math

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import EnvBatch, Outcome
from hpcq.hashing import MAX_HASH
from hpcq.jit.compiler import kernel
from hpcq.learning.owner_kernels import MAX_VISITS
from hpcq.table.hash_table import HAS_MAX, Table, find, insert

# The columns of a record: hash, whether the rank met the state since the last merge, then the
# updates and the value of each column of a row, and the words of a mask of the legal actions.
HASH, NEW, COLUMNS = 0, 1, 2

_TRUNCATED = int(Outcome.TRUNCATED)

_MAX_VISITS = np.uint64(MAX_VISITS)

# Counts saturate: as many as that are left for the updates between two merges.
_MOST_COUNTED = MAX_VISITS // 2


@kernel
def ensure_rows(table: Table, batch: EnvBatch, done: int) -> int:
    """Make rows for the states that environments from number `done` on have just read.

    Returns how many environments have theirs: all, if the rows fitted.
    """
    for i in range(done, batch.hash.size):
        if insert(table, batch.hash[i]) < 0:
            return i
        if batch.outcome[i] == _TRUNCATED and insert(table, batch.final_hash[i]) < 0:
            return i
    return batch.hash.size


@kernel
def write_records(
    table: Table,
    held: NDArray[np.uint64],
    counted: NDArray[np.uint32],
    words: NDArray[np.uint64],
    values: NDArray[np.float64],
) -> None:
    """Write what a rank has made of its rows since the last merge, in the order of their hashes.

    held      uint64, the hashes of the rows that the last merge brought, ascending
    counted   uint32 (n, columns), their visit counts then; (n, 0) for zeros
    words     uint64 (rows, 2 + 2 * columns + words of a mask), out; `values` is the same memory
    """
    n, k, masks_at = 0, 0, COLUMNS + 2 * table.columns
    last = table.hashes.shape[0] - 1
    for slot in range(last + 1):
        hash_ = MAX_HASH if slot == last else table.hashes[slot].hash
        if table.state[HAS_MAX] == 0 if slot == last else hash_ == MAX_HASH:
            continue
        while k < held.size and held[k] < hash_:
            k += 1
        met = k < held.size and held[k] == hash_
        words[n, HASH], words[n, NEW] = hash_, np.uint64(not met)
        for word in range(table.masks.shape[1]):
            words[n, masks_at + word] = table.masks[slot, word]
        for a in range(table.columns):
            count = np.uint64(table.visits[slot, a])
            if met and counted.shape[1] > 0:
                count -= np.uint64(counted[k, a])
            words[n, COLUMNS + a] = count
            values[n, COLUMNS + table.columns + a] = table.q[slot, a]
        n += 1


@kernel
def _local_value(
    table: Table,
    words: NDArray[np.uint64],
    values: NDArray[np.float64],
    record: int,
    a: int,
    old: float,
    decay: float,
) -> float:
    """Return what a rank has made of the owner's value `old`."""
    value = values[record, COLUMNS + table.columns + a]
    if words[record, NEW]:
        # It has begun with q_init.
        value += math.exp(-decay * words[record, COLUMNS + a]) * (old - table.q_init)
    return value


@kernel
def merge(
    table: Table,
    words: NDArray[np.uint64],
    values: NDArray[np.float64],
    order: NDArray[np.int64],
    done: int,
    ranks: int,
    decay: float,
    importance: bool,
) -> int:
    """Merge what the ranks have made of rows, from place `done` of `order` on.

    words       uint64 (n, 2 + 2 * columns + words of a mask), the ranks' records, in rank order
    values      float64, the same memory
    order       int64 (n,), the records in the order of their hashes, else in rank order
    decay       -log(1 - eta)
    importance  whether to weigh by updates; else equally

    Returns the place up to which it came: less than n if the table is full.
    """
    n, masks_at = order.size, COLUMNS + 2 * table.columns
    while done < n:
        hash_ = words[order[done], HASH]
        end, touched = done, False
        while end < n and words[order[end], HASH] == hash_:
            for a in range(table.columns):
                touched |= words[order[end], COLUMNS + a] > 0
            end += 1
        if touched:
            slot = insert(table, hash_)
            if slot < 0:
                return done
            for k in range(table.masks.shape[1]):
                for i in range(done, end):
                    # A rank that has met the state, and done nothing there, has none.
                    table.masks[slot, k] |= words[order[i], masks_at + k]
            for a in range(table.columns):
                most, updates, absent, leader = np.uint64(0), np.uint64(0), ranks, done
                for i in range(done, end):
                    count = words[order[i], COLUMNS + a]
                    leader = i if count > most else leader
                    most = max(most, count)
                    updates += count
                    absent -= count > 0
                if most == 0:
                    continue
                if table.visits.shape[1] > 0:
                    table.visits[slot, a] = min(table.visits[slot, a] + updates, _MAX_VISITS)
                # Weights are taken relative to the largest, and values to the one that has it:
                # what all agree on stays as it is, to the last bit.
                old = np.float64(table.q[slot, a])
                base = _local_value(table, words, values, order[leader], a, old, decay)
                weights = absent * (math.exp(-decay * most) if importance else 1.0)
                total = weights * (old - base)
                for i in range(done, end):
                    count = words[order[i], COLUMNS + a]
                    if count > 0:
                        weight = math.exp(-decay * (most - count)) if importance else 1.0
                        value = _local_value(table, words, values, order[i], a, old, decay)
                        total += weight * (value - base)
                        weights += weight
                table.q[slot, a] = base + total / weights
        done = end
    return done


@kernel
def read_values(
    table: Table,
    words: NDArray[np.uint64],
    values: NDArray[np.float64],
    visits: NDArray[np.uint64],
) -> None:
    """Write what is known of the records' states: values, visits (n, columns), or visits (n, 0)."""
    for i in range(words.shape[0]):
        slot = find(table, words[i, HASH])
        for a in range(table.columns):
            values[i, a] = table.q_init if slot < 0 else table.q[slot, a]
        for a in range(visits.shape[1]):
            visits[i, a] = 0 if slot < 0 else table.visits[slot, a]


def countable(visits: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return visit counts to go on from: at most half of what a uint32 holds."""
    return np.minimum(visits, _MOST_COUNTED).astype(np.uint32)


@kernel
def load_values(table: Table, values: NDArray[np.float64], visits: NDArray[np.uint32]) -> None:
    """Give the rows, in hash order, new values (n, columns) and visit counts.

    visits   uint32 (n, columns), or (n, 0) for none
    """
    n = 0
    last = table.hashes.shape[0] - 1
    for slot in range(last + 1):
        live = table.state[HAS_MAX] == 1 if slot == last else table.hashes[slot].hash != MAX_HASH
        if live:
            for a in range(table.columns):
                table.q[slot, a] = values[n, a]
                table.visits[slot, a] = visits[n, a] if visits.shape[1] > 0 else 0
            n += 1
