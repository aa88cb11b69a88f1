"""Q-learning: bootstrap from the best action.

    target = r + gamma * max_b q(s', b)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. With several steps, the
return ends at the first action that is not greedy: with `trace_decay` it is Watkins's Q(lambda)
(Watkins, "Learning from delayed rewards", 1989, chapter 7) as a truncated forward view.
"""

from hpcq.jit.compiler import template
from hpcq.learning.rule import Rule


@template
def value(q, visits, slot, mask, best, action, draw, parameter):
    """Return the largest value."""
    return best


RULE = Rule(value)
