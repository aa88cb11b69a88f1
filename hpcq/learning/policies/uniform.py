"""Uniform: every legal action alike likely, whatever is known.

Rules that learn off-policy learn the best policy from it, and the others its own values.
"""

from hpcq.jit.compiler import template
from hpcq.learning.policy import Policy


@template
def choose(q, visits, slot, mask, best, draw, parameter):
    """Return any legal action."""
    return anything(mask, draw)


@template
def expectation(q, visits, slot, mask, best, parameter):
    """Return the mean value of the legal actions."""
    total, count = 0.0, 0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += acting(q, slot, a)
            count += 1
    return total / count


POLICY = Policy(choose, expectation)
