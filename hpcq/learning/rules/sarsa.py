"""SARSA: bootstrap from the action that the policy takes next.

    target = r + gamma * q(s', a')

Rummery and Niranjan, "On-line Q-learning using connectionist systems", CUED/F-INFENG/TR 166, 1994;
Sutton and Barto, "Reinforcement Learning", 2018, equation 6.7, and 7.4 with several steps. The last
state of a truncated episode has an action of its own draw, which nobody takes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Callable[..., float]:
    """Return the kernel of the value of the action chosen."""
    behaviour_value = row.behaviour_value

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
        return behaviour_value(q, slot, action)

    return value


RULE = Rule(bootstrap, off_policy=False)
