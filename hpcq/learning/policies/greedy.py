"""Greedy: always a best action, ties broken at random.

What is unknown gets explored if `learning.q_init` is above everything that can be earned:
optimistic initial values. Sutton and Barto, "Reinforcement Learning", 2018, section 2.6.
"""

from hpcq.jit.compiler import template
from hpcq.learning.policy import Policy


@template
def choose(q, visits, slot, mask, best, draw, parameter):
    """Return one of the best actions."""
    return one_of(q, slot, mask, best, False, draw)


@template
def expectation(q, visits, slot, mask, best, parameter):
    """Return the largest value."""
    return best


POLICY = Policy(choose, expectation)
