"""Greedy: always a best action, ties broken at random.

What is unknown gets explored if `learning.q_init` is above everything that can be earned:
optimistic initial values. Sutton and Barto, "Reinforcement Learning", 2018, section 2.6.
"""

from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    sample_best = row.sample_best

    @inlined
    def choose(
        q: QTable,
        visits: Any,
        slot: np.uint64,
        mask: np.uint64,
        best: float,
        draw: np.uint64,
        parameter: float,
    ) -> int:
        return sample_best(q, slot, mask, best, False, draw)

    @inlined
    def expectation(
        q: QTable, visits: Any, slot: np.uint64, mask: np.uint64, best: float, parameter: float
    ) -> float:
        return best

    return PolicyKernels(choose, expectation)


POLICY = Policy(make)
