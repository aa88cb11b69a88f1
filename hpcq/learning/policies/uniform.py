"""Uniform: every legal action alike likely, whatever is known.

Rules that learn off-policy learn the best policy from it, and the others its own values.
"""

from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value
    sample_legal = row.sample_legal

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
        return sample_legal(mask, draw)

    @inlined
    def expectation(
        q: QTable, visits: Any, slot: np.uint64, mask: np.uint64, best: float, parameter: float
    ) -> float:
        total, count = 0.0, 0
        for a in range(actions):
            if is_legal(mask, a):
                total += behaviour_value(q, slot, a)
                count += 1
        return total / count

    return PolicyKernels(choose, expectation)


POLICY = Policy(make)
