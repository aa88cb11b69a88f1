"""Prioritised replay: transitions that taught much when last learned from are drawn more often.

    P(i) = p_i / sum_k p_k        p_i = (|TD error of i| + floor) ^ alpha
    learning rate of the update of i: min(1, rate (N P(i)) ^ -beta), N being the ring's transitions

Schaul, Quan, Antonoglou, Silver, "Prioritized experience replay", ICLR 2016, equation 1 and
section 3.4. With beta = 1 a transition moves its value in the mean as if all were drawn alike, with
beta = 0 each draw counts the same. The paper divides weights by the largest one; as the least
priority is often close to 0, that makes nearly all steps tiny. Live updates weigh 1.

The errors are exact: in such jobs the owner returns a receipt for every update, with the TD error
that it found. Live updates have theirs, too, so no priority need be guessed for a new transition:
it is drawn from the moment on at which its error is known, two ticks later.

Priorities are whole numbers, 1 + floor(2^16 p_i), and so are their sums: a tree that is built
from saved priorities is the one that was left, to the last bit.
"""

import numpy as np

from hpcq.collectors.outcome import Outcome
from hpcq.exchange.base import REPLIES_AT, UPDATES
from hpcq.hashing import hi64, mix64, owner
from hpcq.jit.compiler import inlined, kernel

_RESET = int(Outcome.RESET)
_ZERO = np.uint64(0)
_UNIT = 65_536.0
_MOST = float(2**32 - 2)


@inlined
def _sum(priorities, n, node):
    size, capacity = priorities.sums.shape[1], priorities.value.shape[1]
    if node < size:
        return priorities.sums[n, node]
    return np.uint64(priorities.value[n, node - size]) if node - size < capacity else _ZERO


@kernel
def build(priorities):
    """Compute the trees from the values."""
    for n in range(priorities.value.shape[0]):
        for node in range(priorities.sums.shape[1] - 1, 0, -1):
            left, right = _sum(priorities, n, 2 * node), _sum(priorities, n, 2 * node + 1)
            priorities.sums[n, node] = left + right


@kernel
def assign(priorities, n, place, value):
    """Give the transition in a place of ring `n` a value; with 0 it is never drawn."""
    # Sums wrap at 2^64, so that a difference below 0 is subtracted.
    more = np.uint64(value) - np.uint64(priorities.value[n, place])
    priorities.value[n, place] = value
    node = (priorities.sums.shape[1] + place) // 2
    while node > 0:
        priorities.sums[n, node] += more
        node //= 2


@kernel
def find(priorities, n, number):
    """Return the place before which the values sum to at most `number`, and with it to more."""
    node, size = 1, priorities.sums.shape[1]
    while node < size:
        node *= 2
        left = _sum(priorities, n, node)
        if number >= left:
            number -= left
            node += 1
    return node - size


@inlined
def _value_of(error, exponent, floor):
    scaled = (abs(error) + floor) ** exponent * _UNIT
    # Written so that what is not a number has the largest value.
    return np.uint32(1) + np.uint32(scaled if scaled < _MOST else _MOST)


@kernel
def draw(priorities, batch, added, stream_ids, word, least, beta, places):
    """Take note of the newest transitions, and draw others.

    actors, words   of each environment the live transition, then the replayed ones
    added           int64 (n,), transitions that each ring has taken so far
    word            of this tick
    least           transitions that a ring must hold before any is drawn
    beta            exponent of the weights
    places          int64 (n, ratio), out: where what is drawn stands; -1: nothing is drawn
    """
    capacity, width = priorities.value.shape[1], priorities.sampled.shape[1]
    for n in range(added.size):
        newest = added[n] - 1
        if batch.outcome[n * width] != _RESET:
            priorities.sampled[n, 0] = newest
            assign(priorities, n, newest % capacity, np.uint32(0))
        total, filled = priorities.sums[n, 1], min(added[n], capacity)
        some = total > _ZERO and filled >= least
        mean = np.float64(total) / np.float64(max(filled, 1))
        for j in range(1, width):
            places[n, j - 1] = -1
            if some:
                number = hi64(mix64(word ^ stream_ids[n * width + j]), total)
                place = np.int64(find(priorities, n, number))
                places[n, j - 1] = place
                # Transition number k stands in place k modulo the capacity; the latest such one.
                priorities.sampled[n, j] = newest - (newest - place) % capacity
                # 1 / (N P): the mean over the ring by the value itself.
                priorities.weight[n, j] = (mean / np.float64(priorities.value[n, place])) ** beta


@kernel
def take_acks(priorities, batch, added, exponent, floor, ranks, sent, replies, cursors):
    """Learn the errors of the updates of this tick; what was drawn in it is pending from now on.

    exponent, floor   alpha, and what is added to a |TD error|
    cursors           uint64 (messages.CURSORS, ranks), scratch
    """
    capacity, width = priorities.value.shape[1], priorities.sampled.shape[1]
    for rank in range(sent.shape[0]):
        cursors[UPDATES, rank] = sent[rank, REPLIES_AT]
    for n in range(added.size):
        for j in range(width):
            i, number = n * width + j, priorities.pending[n, j]
            # Of updates of nothing, too.
            source = owner(batch.update_hash[i], ranks)
            error = np.float64(replies[cursors[UPDATES, source]].value)
            cursors[UPDATES, source] += np.uint64(1)
            if batch.update_pending[i]:
                # Another one may stand in its place by now.
                if added[n] - number <= capacity:
                    assign(priorities, n, number % capacity, _value_of(error, exponent, floor))
            priorities.pending[n, j] = priorities.sampled[n, j]
            batch.update_weight[i] = priorities.weight[n, j]
