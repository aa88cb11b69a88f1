"""One sweep of the Bellman operator over a segment of states: reads one vector, writes another.

    V'(s) = max_a r(s, a) + discount * sum_k p_k V(s_k)

Bellman, "Dynamic Programming", 1957. In Jacobi's way: a value depends on the last sweep alone, not
on the order of states, so that the bits are the same on any number of ranks. Where the other player
moves next, the discount is negative.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import prefetch_to_read

Values = NDArray[np.float64]
Policy = NDArray[np.uint16]

# How many outcomes ahead the values of states are fetched; segments end in so many more places.
AHEAD = 32

# Of an average reward: so large a part of a sweep's change is made. All of it would never settle
# where states come back after a fixed number of steps: Schweitzer, "Iterative solution of the
# functional equations of undiscounted Markov renewal programming", J. Math. Anal. Appl. 34, 1971.
_MADE = 0.75


class Segment(NamedTuple):
    """Consecutive states of a rank with their outcomes; see `expand.Block`."""

    first: int
    states: int
    places: NDArray[np.uint32]
    """(n + AHEAD,), places in the vector of values"""
    probability: NDArray[np.float64]
    reward: NDArray[np.float64]
    """(states A,), or (1,) where all are equal"""
    ends: NDArray[np.uint32]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(array.nbytes for array in self[2:])


@kernel
def invert(order: NDArray[np.uint32], position: NDArray[np.uint32]) -> None:
    """Write where in an order each number stands."""
    for i in range(order.size):
        position[np.uint64(order[i])] = i


@kernel
def settle(value: Values, new: Values, states: int, reward_rate: float) -> None:
    """Take off what a step earns on average, and make only a part of what is left of a change."""
    for i in range(states):
        new[i] = value[i] + _MADE * (new[i] - value[i] - reward_rate)


class Kernels(NamedTuple):
    """The kernels of a sweep; see `make_kernels`."""

    improve: Any
    evaluate: Any
    action_values: Any


@functools.cache
def make_kernels(actions: int, single: bool) -> Kernels:
    """Return the kernels for so many actions; `single`: each has one outcome."""

    @inlined
    def action_value(segment: Segment, row: Any, value: Values, discount: float) -> Any:
        """Return r(s, a) + discount * sum_k p_k V(s_k) of row (s, a) of a segment."""
        places, step = segment.places, np.int64(segment.reward.size > 1)
        if single:
            prefetch_to_read(value, np.uint64(places[row + AHEAD]))
            return segment.reward[row * step] + discount * value[np.uint64(places[row])]
        start: Any = np.int64(0)
        if row > 0:
            start = np.int64(segment.ends[row - 1])
        total = 0.0
        for i in range(start, np.int64(segment.ends[row])):
            prefetch_to_read(value, np.uint64(places[i + AHEAD]))
            total += segment.probability[i] * value[np.uint64(places[i])]
        return segment.reward[row * step] + discount * total

    @kernel
    def improve(
        segment: Segment, value: Values, discount: float, new: Values, policy: Policy, span: Values
    ) -> None:
        """Write the best values and the first of the best actions.

        span   float64 (3,), in and out: least and largest change, largest |value|
        """
        least, most, largest = span[0], span[1], span[2]
        row = 0
        for state in range(segment.first, segment.first + segment.states):
            best, chosen = -np.inf, 0
            for action in range(actions):
                found = action_value(segment, row, value, discount)
                if found > best:
                    best, chosen = found, action
                row += 1
            new[state], policy[state] = best, chosen
            least, most = min(least, best - value[state]), max(most, best - value[state])
            largest = max(largest, abs(best))
        span[0], span[1], span[2] = least, most, largest

    @kernel
    def evaluate(
        segment: Segment, value: Values, discount: float, new: Values, policy: Policy, span: Values
    ) -> None:
        """Write the values of the policy's actions; see `improve`."""
        least, most, largest = span[0], span[1], span[2]
        row = 0
        for state in range(segment.first, segment.first + segment.states):
            found = action_value(segment, row + np.int64(policy[state]), value, discount)
            row += actions
            new[state] = found
            least, most = min(least, found - value[state]), max(most, found - value[state])
            largest = max(largest, abs(found))
        span[0], span[1], span[2] = least, most, largest

    @kernel
    def action_values(
        segment: Segment,
        position: NDArray[np.uint32],
        first: int,
        value: Values,
        discount: float,
        q: Any,
    ) -> None:
        """Write r(s, a) + discount * sum_k p_k V(s_k) of some states, and all actions, to q (n, A).

        position   uint32, of each state; that of row 0 of `q` is `first`
        """
        for state in range(segment.first, segment.first + segment.states):
            to = np.int64(position[state]) - first
            if 0 <= to < q.shape[0]:
                row = (state - segment.first) * actions
                for action in range(actions):
                    q[to, action] = action_value(segment, row + action, value, discount)

    return Kernels(improve, evaluate, action_values)
