"""Q-learning: bootstrap from the best action.

    target = r + gamma * max_b q(s', b)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. With several steps, the
return ends at the first action that is not greedy: with `trace_decay` it is Watkins's Q(lambda)
(Watkins, "Learning from delayed rewards", 1989, chapter 7) as a truncated forward view.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Callable[..., float]:
    """Return the kernel of the largest value."""

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
        return best

    return value


RULE = Rule(bootstrap)
