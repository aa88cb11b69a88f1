"""Epsilon-greedy: uniform with probability epsilon, else a best action; ties are broken at random.

Watkins, "Learning from delayed rewards", 1989; Sutton and Barto, "Reinforcement Learning", 2018,
section 2.2.
"""

import numpy as np

from hpcq.jit.compiler import template
from hpcq.learning.policy import Policy


@template
def choose(q, visits, slot, mask, best, draw, epsilon):
    """Return an action, uniform over all where the draw's upper half is below epsilon."""
    explore = (draw >> np.uint64(32)) < np.uint64(epsilon * 4294967296.0)
    return one_of(q, slot, mask, best, explore, draw)


@template
def expectation(q, visits, slot, mask, best, epsilon):
    """Return epsilon times the mean and the rest times the largest value."""
    total, count = 0.0, 0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += acting(q, slot, a)
            count += 1
    return epsilon * (total / count) + (1.0 - epsilon) * best


POLICY = Policy(choose, expectation, "epsilon")
