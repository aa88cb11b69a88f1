"""Upper confidence bounds: the value plus a bonus for rarely tried actions.

    argmax_a  q(s, a) + c * sqrt(ln N(s) / N(s, a)),    N(s) = sum_a N(s, a)

N(s, a) counts updates; an action without any comes first, ties are broken at random. c is the
`confidence`, in the unit of rewards. Auer, Cesa-Bianchi, Fischer, "Finite-time analysis of the
multiarmed bandit problem", Machine Learning 47, 2002 (UCB1); Sutton and Barto, "Reinforcement
Learning", 2018, equation 2.10.
"""

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value
    randint, visit_count = row.randint, row.visit_count

    @inlined
    def bound(at: Query, a: int, log_all: float) -> float:
        """Return the bound of one action; `log_all` is ln N(s)."""
        count = visit_count(at.visits, at.slot, a)
        if count == 0:
            return np.inf
        return behaviour_value(at.q, at.slot, a) + at.parameter * np.sqrt(log_all / count)

    @inlined
    def largest_bound(at: Query) -> tuple[float, int, float]:
        """Return the largest bound, how many actions have it, and ln N(s)."""
        total = 0
        for a in range(actions):
            if is_legal(at.mask, a):
                total += visit_count(at.visits, at.slot, a)
        log_all = np.log(np.float64(max(total, 1)))
        most, candidates = -np.inf, 0
        for a in range(actions):
            if is_legal(at.mask, a):
                found = bound(at, a, log_all)
                candidates = candidates * (found <= most) + (found >= most)
                most = max(most, found)
        return most, candidates, log_all

    @inlined
    def choose(at: Query) -> int:
        most, candidates, log_all = largest_bound(at)
        skip, chosen = randint(at.draw, candidates), 0
        for a in range(actions):
            if is_legal(at.mask, a) and bound(at, a, log_all) == most:
                chosen = a if skip == 0 else chosen
                skip -= 1
        return chosen

    @inlined
    def expectation(at: Query) -> float:
        most, candidates, log_all = largest_bound(at)
        total = 0.0
        for a in range(actions):
            if is_legal(at.mask, a) and bound(at, a, log_all) == most:
                total += behaviour_value(at.q, at.slot, a)
        return total / candidates

    return PolicyKernels(choose, expectation)


POLICY = Policy(make, "confidence", visits=True)
