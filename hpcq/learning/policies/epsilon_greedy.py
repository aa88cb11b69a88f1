"""Epsilon-greedy: uniform with probability epsilon, else a best action; ties are broken at random.

Watkins, "Learning from delayed rewards", 1989; Sutton and Barto, "Reinforcement Learning", 2018,
section 2.2.
"""

from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels; the draw's upper half decides whether to explore."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value
    sample_best = row.sample_best

    @inlined
    def choose(
        q: QTable,
        visits: Any,
        slot: np.uint64,
        mask: np.uint64,
        best: float,
        draw: np.uint64,
        epsilon: float,
    ) -> int:
        explore = (draw >> np.uint64(32)) < np.uint64(epsilon * 4294967296.0)
        return sample_best(q, slot, mask, best, explore, draw)

    @inlined
    def expectation(
        q: QTable, visits: Any, slot: np.uint64, mask: np.uint64, best: float, epsilon: float
    ) -> float:
        total, count = 0.0, 0
        for a in range(actions):
            if is_legal(mask, a):
                total += behaviour_value(q, slot, a)
                count += 1
        return epsilon * (total / count) + (1.0 - epsilon) * best

    return PolicyKernels(choose, expectation)


POLICY = Policy(make, "epsilon")
