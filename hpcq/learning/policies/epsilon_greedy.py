"""Epsilon-greedy: uniform with probability epsilon, else a best action; ties are broken at random.

Watkins, "Learning from delayed rewards", 1989; Sutton and Barto, "Reinforcement Learning", 2018,
section 2.2.
"""

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels; the draw's upper half decides whether to explore."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value
    sample_best = row.sample_best

    @inlined
    def choose(at: Query) -> int:
        explore = (at.draw >> np.uint64(32)) < np.uint64(at.parameter * 4294967296.0)
        return sample_best(at, explore)

    @inlined
    def expectation(at: Query) -> float:
        total, count = 0.0, 0
        for a in range(actions):
            if is_legal(at.mask, a):
                total += behaviour_value(at.q, at.slot, a)
                count += 1
        return at.parameter * (total / count) + (1.0 - at.parameter) * at.best

    return PolicyKernels(choose, expectation)


POLICY = Policy(make, "epsilon")
