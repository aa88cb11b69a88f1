"""Expected SARSA: bootstrap from the mean over the policy's actions.

    target = r + gamma * sum_b pi(b | s') q(s', b)

van Seijen, van Hasselt, Whiteson, Wiering, "A theoretical and empirical analysis of Expected
Sarsa", ADPRL 2009, equation 5; Sutton and Barto, "Reinforcement Learning", 2018, equations 6.9, and
7.7 with several steps.
"""

from hpcq.jit.compiler import template
from hpcq.learning.rule import Rule


@template
def value(q, visits, slot, mask, best, action, draw, parameter):
    """Return the policy's mean value."""
    return expectation(q, visits, slot, mask, best, parameter)


RULE = Rule(value, cuts_traces=False)
