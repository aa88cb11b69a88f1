"""Upper confidence bounds: what is good, or has been tried little.

    argmax_a  q(s, a) + c * sqrt(ln N(s) / N(s, a)),    N(s) = sum_a N(s, a)

N(s, a) counts updates; an action without any comes first, ties are broken at random. c is the
`confidence`, in the unit of rewards. Auer, Cesa-Bianchi, Fischer, "Finite-time analysis of the
multiarmed bandit problem", Machine Learning 47, 2002 (UCB1); Sutton and Barto, "Reinforcement
Learning", 2018, equation 2.10.
"""

import numpy as np

from hpcq.jit.compiler import template
from hpcq.learning.policy import Policy


@template
def bound(q, visits, slot, a, log_all, confidence):
    """Return the bound of one action; `log_all` is ln N(s)."""
    count = tried(visits, slot, a)
    return np.inf if count == 0 else acting(q, slot, a) + confidence * np.sqrt(log_all / count)


@template
def widest(q, visits, slot, mask, confidence):
    """Return the largest bound, how many actions have it, and ln N(s)."""
    total = 0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += tried(visits, slot, a)
    log_all = np.log(np.float64(max(total, 1)))
    most, candidates = -np.inf, 0
    for a in range(ACTIONS):
        if permits(mask, a):
            found = bound(q, visits, slot, a, log_all, confidence)
            candidates = candidates * (found <= most) + (found >= most)
            most = max(most, found)
    return most, candidates, log_all


@template
def choose(q, visits, slot, mask, best, draw, confidence):
    """Return one of the actions with the largest bound."""
    most, candidates, log_all = widest(q, visits, slot, mask, confidence)
    skip, chosen = pick(draw, candidates), 0
    for a in range(ACTIONS):
        if permits(mask, a) and bound(q, visits, slot, a, log_all, confidence) == most:
            chosen = a if skip == 0 else chosen
            skip -= 1
    return chosen


@template
def expectation(q, visits, slot, mask, best, confidence):
    """Return the mean value of the actions with the largest bound."""
    most, candidates, log_all = widest(q, visits, slot, mask, confidence)
    total = 0.0
    for a in range(ACTIONS):
        if permits(mask, a) and bound(q, visits, slot, a, log_all, confidence) == most:
            total += acting(q, slot, a)
    return total / candidates


POLICY = Policy(choose, expectation, "confidence", visits=True, helpers=(bound, widest))
