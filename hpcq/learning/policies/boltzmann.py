"""Boltzmann (softmax) exploration: the better, the likelier.

    pi(a | s) = exp(q(s, a) / T) / sum_b exp(q(s, b) / T)

T is the temperature, in the unit of rewards. Sutton, "Integrated architectures for learning,
planning, and reacting based on approximating dynamic programming", ICML 1990; Sutton and Barto,
"Reinforcement Learning", 2018, equation 2.11.
"""

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels
from hpcq.rng import unit_interval


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value

    @inlined
    def weight_of(at: Query, a: int) -> float:
        return np.exp((behaviour_value(at.q, at.slot, a) - at.best) / at.parameter)

    @inlined
    def choose(at: Query) -> int:
        # The first action whose running sum of weights exceeds the draw.
        total = 0.0
        for a in range(actions):
            if is_legal(at.mask, a):
                total += weight_of(at, a)
        threshold, reached, chosen = unit_interval(at.draw) * total, 0.0, -1
        for a in range(actions):
            if is_legal(at.mask, a) and reached <= threshold:
                weight = weight_of(at, a)
                # A weight that underflows to 0 is never taken.
                chosen = a if weight > 0.0 else chosen
                reached += weight
        return chosen

    @inlined
    def expectation(at: Query) -> float:
        total, sum_ = 0.0, 0.0
        for a in range(actions):
            if is_legal(at.mask, a):
                weight = weight_of(at, a)
                total += weight
                sum_ += weight * behaviour_value(at.q, at.slot, a)
        return sum_ / total

    return PolicyKernels(choose, expectation)


POLICY = Policy(make, "temperature")
