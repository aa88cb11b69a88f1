"""Expected SARSA: bootstrap from the mean over the policy's actions.

    target = r + gamma * sum_b pi(b | s') q(s', b)

van Seijen, van Hasselt, Whiteson, Wiering, "A theoretical and empirical analysis of Expected
Sarsa", ADPRL 2009, equation 5; Sutton and Barto, "Reinforcement Learning", 2018, equations 6.9, and
7.7 with several steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Callable[..., float]:
    """Return the kernel of the policy's mean value."""
    expectation = policy.expectation

    @inlined
    def value(
        q: QTable,
        visits: Any,
        slot: np.uint64,
        mask: np.uint64,
        best: float,
        action: int,
        draw: np.uint64,
        policy_parameter: float,
    ) -> float:
        return expectation(q, visits, slot, mask, best, policy_parameter)

    return value


RULE = Rule(bootstrap, off_policy=False)
