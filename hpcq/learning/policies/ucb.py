"""Upper confidence bounds: what is good, or has been tried little.

    argmax_a  q(s, a) + c * sqrt(ln N(s) / N(s, a)),    N(s) = sum_a N(s, a)

N(s, a) counts updates; an action without any comes first, ties are broken at random. c is the
`confidence`, in the unit of rewards. Auer, Cesa-Bianchi, Fischer, "Finite-time analysis of the
multiarmed bandit problem", Machine Learning 47, 2002 (UCB1); Sutton and Barto, "Reinforcement
Learning", 2018, equation 2.10.
"""

import numpy as np

from hpcq.learning.policy import Policy
from hpcq.native.kernels import inlined, template


@inlined
def _bound(value, log_all, count, confidence):
    return np.inf if count == 0 else value + confidence * np.sqrt(log_all / count)


@template
def choose(q, visits, slot, mask, best, draw, confidence):
    """Return one of the actions with the largest bound."""
    total = 0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += tried(visits, slot, a)
    log_all = np.log(np.float64(max(total, 1)))
    most, candidates = -np.inf, 0
    for a in range(ACTIONS):
        if permits(mask, a):
            bound = _bound(acting(q, slot, a), log_all, tried(visits, slot, a), confidence)
            if bound > most:
                most, candidates = bound, 0
            candidates += bound == most
    skip, chosen = pick(draw, candidates), 0
    for a in range(ACTIONS):
        if permits(mask, a):
            bound = _bound(acting(q, slot, a), log_all, tried(visits, slot, a), confidence)
            if bound == most:
                if skip == 0:
                    chosen = a
                skip -= 1
    return chosen


@template
def expectation(q, visits, slot, mask, best, confidence):
    """Return the mean value of the actions with the largest bound."""
    total = 0
    for a in range(ACTIONS):
        if permits(mask, a):
            total += tried(visits, slot, a)
    log_all = np.log(np.float64(max(total, 1)))
    most, sum_, candidates = -np.inf, 0.0, 0
    for a in range(ACTIONS):
        if permits(mask, a):
            value = acting(q, slot, a)
            bound = _bound(value, log_all, tried(visits, slot, a), confidence)
            if bound > most:
                most, sum_, candidates = bound, 0.0, 0
            if bound == most:
                sum_ += value
                candidates += 1
    return sum_ / candidates


POLICY = Policy(choose, expectation, "confidence", visits=True)
