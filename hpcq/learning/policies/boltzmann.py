"""Boltzmann (softmax) exploration: the better, the likelier.

    pi(a | s) = exp(q(s, a) / T) / sum_b exp(q(s, b) / T)

T is the temperature, in the unit of rewards. Sutton, "Integrated architectures for learning,
planning, and reacting based on approximating dynamic programming", ICML 1990; Sutton and Barto,
"Reinforcement Learning", 2018, equation 2.11.
"""

import numpy as np

from hpcq.jit.compiler import template
from hpcq.learning.policy import Policy
from hpcq.rng import unit_interval


@template
def choose(q, visits, slot, mask, best, draw, temperature):
    """Return the first action whose running sum of weights exceeds the draw."""
    total = 0.0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += np.exp((acting(q, slot, a) - best) / temperature)
    threshold, reached, chosen = unit_interval(draw) * total, 0.0, -1
    for a in range(ACTIONS):
        if permits(mask, a) and reached <= threshold:
            weight = np.exp((acting(q, slot, a) - best) / temperature)
            # What never happens is not to be taken for want of another.
            chosen = a if weight > 0.0 else chosen
            reached += weight
    return chosen


@template
def expectation(q, visits, slot, mask, best, temperature):
    """Return the mean value under the weights."""
    total, sum_ = 0.0, 0.0
    for a in range(ACTIONS):
        if permits(mask, a):
            weight = np.exp((acting(q, slot, a) - best) / temperature)
            total += weight
            sum_ += weight * acting(q, slot, a)
    return sum_ / total


POLICY = Policy(choose, expectation, "temperature")
