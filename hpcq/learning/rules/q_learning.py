"""Q-learning: bootstrap from the best action.

    target = r + gamma * max_b q(s', b)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. With several steps, the
return ends at the first action that is not greedy: with `trace_decay` it is Watkins's Q(lambda)
(Watkins, "Learning from delayed rewards", 1989, chapter 7) as a truncated forward view.
"""

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Bootstrap, Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Bootstrap:
    """Return the kernel of the largest value."""

    @inlined
    def value(at: Query, action: int) -> float:
        return at.best

    return value


RULE = Rule(bootstrap)
