"""Merging what the ranks of a periodic run have made of their copies of rows: the kernels."""

import math

import numpy as np

from hpcq.collectors.actors import Outcome
from hpcq.hashing import MAX_HASH
from hpcq.native.kernels import kernel
from hpcq.table.rows import HAS_MAX, find, insert

# The columns of a record: hash, whether the rank met the state since the last merge, its legal
# actions if these are told, then the updates and the value of each column of a row.
HASH, NEW, MASK, COLUMNS = 0, 1, 2, 3

_TRUNCATED = int(Outcome.TRUNCATED)


@kernel
def meet(table, actors, done):
    """Make rows for the states that environments from number `done` on have just read.

    Returns how many environments have theirs: all, if the rows fitted.
    """
    for i in range(done, actors.hash.size):
        if insert(table, actors.hash[i]) < 0:
            return i
        if actors.outcome[i] == _TRUNCATED and insert(table, actors.final[i]) < 0:
            return i
    return actors.hash.size


@kernel
def merge(table, words, values, order, done, ranks, decay, importance):
    """Merge what the ranks have made of rows, from place `done` of `order` on.

    words       uint64 (n, 3 + 2 * columns), the ranks' records, in rank order
    values      float64, the same memory
    order       int64 (n,), the records in the order of their hashes, else in rank order
    decay       -log(1 - eta)
    importance  whether to weigh by updates; else equally

    Returns the place up to which it came: less than n if the table is full.
    """
    n = order.size
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
                table.masks[slot, k] = words[order[end - 1], MASK]
            for a in range(table.columns):
                old = np.float64(table.q[slot, a])
                most, absent = np.uint64(0), ranks
                for i in range(done, end):
                    count = words[order[i], COLUMNS + a]
                    most = max(most, count)
                    absent -= count > 0
                if most == 0:
                    continue
                # Weights are taken relative to the largest.
                weights = absent * (math.exp(-decay * most) if importance else 1.0)
                total = weights * old
                for i in range(done, end):
                    count = words[order[i], COLUMNS + a]
                    if count > 0:
                        value = values[order[i], COLUMNS + table.columns + a]
                        if words[order[i], NEW]:
                            value += math.exp(-decay * count) * (old - table.q_init)
                        weight = math.exp(-decay * (most - count)) if importance else 1.0
                        total += weight * value
                        weights += weight
                table.q[slot, a] = total / weights
        done = end
    return done


@kernel
def read(table, words, out):
    """Write the values of the records' states to `out` (n, columns)."""
    for i in range(words.shape[0]):
        slot = find(table, words[i, HASH])
        for a in range(table.columns):
            out[i, a] = table.q_init if slot < 0 else table.q[slot, a]


@kernel
def take(table, values):
    """Give the rows, in the order of their hashes, new values (n, columns), and no updates."""
    n = 0
    last = table.hashes.shape[0] - 1
    for slot in range(last + 1):
        live = table.state[HAS_MAX] == 1 if slot == last else table.hashes[slot, 0] != MAX_HASH
        if live:
            for a in range(table.columns):
                table.q[slot, a] = values[n, a]
                table.visits[slot, a] = 0
            n += 1
