"""Prioritised replay: transitions with large TD errors are drawn more often.

    P(i) = p_i / sum_k p_k        p_i = (|TD error of i| + floor) ^ alpha
    learning rate of the update of i: min(1, rate (N P(i)) ^ -beta), with N transitions in the ring

Schaul, Quan, Antonoglou, Silver, "Prioritized experience replay", ICLR 2016, equation 1 and
section 3.4. With beta = 1 the expected update is that of uniform replay, with beta = 0 each draw
counts the same. The paper divides weights by the largest one; as the smallest priority is often
close to 0, that makes nearly all steps tiny. Live updates have weight 1.

The errors are exact: the owner acknowledges every update, live ones included, with the TD error
that it found. No priority is guessed for a new transition: it can be drawn once its error is
known, two ticks later.

Priorities are integers, 1 + floor(2^16 p_i), and so are their sums: a tree that is rebuilt from
saved priorities is bit-identical to the one that was saved.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import Outcome
from hpcq.exchange.base import REPLIES_AT, UPDATES
from hpcq.hashing import hi64, mix64, owner
from hpcq.jit.compiler import inlined, kernel

_RESET = int(Outcome.RESET)
_ZERO = np.uint64(0)
_UNIT = 65_536.0
_MOST = float(2**32 - 2)


@inlined
def _sum(priorities: Any, n: Any, node: Any) -> Any:
    size, capacity = priorities.sums.shape[1], priorities.value.shape[1]
    if node < size:
        return priorities.sums[n, node]
    return np.uint64(priorities.value[n, node - size]) if node - size < capacity else _ZERO


@kernel
def build(priorities: Any) -> None:
    """Compute the trees from the values."""
    for n in range(priorities.value.shape[0]):
        for node in range(priorities.sums.shape[1] - 1, 0, -1):
            left, right = _sum(priorities, n, 2 * node), _sum(priorities, n, 2 * node + 1)
            priorities.sums[n, node] = left + right


@kernel
def assign(priorities: Any, n: int, slot: int, value: np.uint32) -> None:
    """Set the priority of the transition in a slot of ring `n`; with 0 it is never drawn."""
    # Modulo 2^64: adding a negative difference subtracts.
    change = np.uint64(value) - np.uint64(priorities.value[n, slot])
    priorities.value[n, slot] = value
    node = (priorities.sums.shape[1] + slot) // 2
    while node > 0:
        priorities.sums[n, node] += change
        node //= 2


@kernel
def find(priorities: Any, n: int, number: np.uint64) -> int:
    """Return the first slot of ring `n` up to which the priorities sum to more than `number`."""
    node, size = 1, priorities.sums.shape[1]
    while node < size:
        node *= 2
        left = _sum(priorities, n, node)
        if number >= left:
            number -= left
            node += 1
    return node - size


@inlined
def _value_of(error: Any, exponent: float, floor: float) -> Any:
    scaled = (abs(error) + floor) ** exponent * _UNIT
    # The comparison is false for NaN, which has the largest priority.
    return np.uint32(1) + np.uint32(scaled if scaled < _MOST else _MOST)


@kernel
def draw(
    priorities: Any,
    batch: Any,
    added: NDArray[np.int64],
    stream_ids: NDArray[np.uint64],
    word: np.uint64,
    learning_starts: int,
    beta: float,
    slots: NDArray[np.int64],
) -> None:
    """Note the numbers of the newest transitions, and draw others by priority.

    Parameters
    ----------
    batch, stream_ids
        of each environment the live transition, then the replayed ones.
    added
        int64 (n,), transitions that each ring has taken so far.
    word
        of this tick, see `rng.tick_word`.
    learning_starts
        transitions that a ring must hold before any is drawn.
    beta
        exponent of the weights.
    slots
        int64 (n, ratio), out: the slots of what is drawn; -1: nothing is drawn.
    """
    capacity, width = priorities.value.shape[1], priorities.sampled.shape[1]
    for n in range(added.size):
        newest = added[n] - 1
        if batch.outcome[n * width] != _RESET:
            priorities.sampled[n, 0] = newest
            assign(priorities, n, newest % capacity, np.uint32(0))
        total, filled = priorities.sums[n, 1], min(added[n], capacity)
        some = total > _ZERO and filled >= learning_starts
        mean = np.float64(total) / np.float64(max(filled, 1))
        for j in range(1, width):
            slots[n, j - 1] = -1
            if some:
                number = hi64(mix64(word ^ stream_ids[n * width + j]), total)
                slot = np.int64(find(priorities, n, number))
                slots[n, j - 1] = slot
                # Transition number k is in slot k modulo the capacity: the latest such k.
                priorities.sampled[n, j] = newest - (newest - slot) % capacity
                # 1 / (N P): the mean priority of the ring over this one.
                priorities.weight[n, j] = (mean / np.float64(priorities.value[n, slot])) ** beta


@kernel
def take_acks(
    priorities: Any,
    batch: Any,
    added: NDArray[np.int64],
    exponent: float,
    floor: float,
    ranks: np.uint64,
    sent: NDArray[np.int64],
    replies: Any,
    cursors: NDArray[np.uint64],
) -> None:
    """Set priorities by the TD errors of this tick's updates; then what was drawn is pending.

    Parameters
    ----------
    exponent, floor
        alpha, and what is added to a |TD error|.
    cursors
        uint64 (messages.CURSORS, ranks), scratch.
    """
    capacity, width = priorities.value.shape[1], priorities.sampled.shape[1]
    for rank in range(sent.shape[0]):
        cursors[UPDATES, rank] = sent[rank, REPLIES_AT]
    for n in range(added.size):
        for j in range(width):
            i, number = n * width + j, priorities.pending[n, j]
            # Empty updates are acknowledged, too.
            source = owner(batch.update_hash[i], ranks)
            error = np.float64(replies[cursors[UPDATES, source]].value)
            cursors[UPDATES, source] += np.uint64(1)
            if batch.update_pending[i]:
                # A newer transition may have replaced it.
                if added[n] - number <= capacity:
                    assign(priorities, n, number % capacity, _value_of(error, exponent, floor))
            priorities.pending[n, j] = priorities.sampled[n, j]
            batch.update_weight[i] = priorities.weight[n, j]
