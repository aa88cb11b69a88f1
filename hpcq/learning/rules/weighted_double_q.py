"""Weighted double Q-learning: between the value of the table that selects and that of the other.

    with a fair coin, for q1 (for q2 with the tables exchanged), best = argmax_b q1(s', b):
    gap = |q2(s', best) - q2(s', argmin_b q1(s', b))|, w = gap / (weight_constant + gap)
    target of q1 = r + gamma * (w * q1(s', best) + (1 - w) * q2(s', best))

Zhang, Pan, Kochenderfer, "Weighted double Q-learning", IJCAI 2017, algorithm 1. Q-learning values
the best action too high, double Q-learning too low; a constant of 0 is near the one, a large one
near the other. Tables, policy, ties and returns are as in `double_q`.
"""

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Bootstrap, Rule

OPTIONS = {
    "weight_constant": {
        "default": 10.0,
        "least": 0.0,
        "most": 1e30,
        "meaning": "how far double Q-learning is preferred, in the unit of rewards",
    },
}


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Bootstrap:
    """Return the kernel of the weighted mean of both tables' values of the drawn one's best."""
    actions, is_legal, table_of = row.actions, row.is_legal, row.table_of
    constant = float(dict(row.options)["weight_constant"])

    @inlined
    def value(at: Query, action: int) -> float:
        mine = np.int64(table_of(at.draw)) * actions
        other = actions - mine
        best, worst, found = 0, 0, False
        most = least = at.q[at.slot, mine]
        for a in range(actions):
            candidate = at.q[at.slot, mine + a]
            legal = is_legal(at.mask, a)
            better = legal & (not found or candidate > most)
            worse = legal & (not found or candidate < least)
            most, best = candidate if better else most, a if better else best
            least, worst = candidate if worse else least, a if worse else worst
            found = found or legal
        theirs = np.float64(at.q[at.slot, other + best])
        gap = abs(theirs - np.float64(at.q[at.slot, other + worst]))
        if gap == 0.0:
            return theirs
        weight = gap / (constant + gap)
        return weight * np.float64(most) + (1.0 - weight) * theirs

    return value


RULE = Rule(bootstrap, tables=2, supports_lambda=False)
