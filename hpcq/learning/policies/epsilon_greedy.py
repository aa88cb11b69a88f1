"""Epsilon-greedy: uniform with probability epsilon, else a best action; ties are broken at random.

Watkins, "Learning from delayed rewards", 1989; Sutton and Barto, "Reinforcement Learning", 2018,
section 2.2.
"""

import numpy as np

from hpcq.learning.policy import Policy
from hpcq.native.kernels import template

# Of the smaller type: values of either are compared as what they are.
_LOWEST = np.float32(-np.inf)


@template
def choose(q, visits, slot, mask, best, draw, epsilon):
    """Return an action, uniform over all where the draw's upper half is below epsilon."""
    # Without branches: whether a row has ties, and which, cannot be predicted.
    explore = (draw >> np.uint64(32)) < np.uint64(epsilon * 4294967296.0)
    least = _LOWEST if explore else best
    candidates = 0
    for a in range(ACTIONS):
        candidates += permits(mask, a) & (acting(q, slot, a) >= least)
    skip = pick(draw, candidates)
    passed, chosen = 0, 0
    for a in range(ACTIONS - 1):
        passed += permits(mask, a) & (acting(q, slot, a) >= least)
        chosen += passed <= skip
    return chosen


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
