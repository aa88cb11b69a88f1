"""Double Q-learning: one table chooses, the other one tells the value.

    with a fair coin, either  target of q1 = r + gamma * q2(s', argmax_b q1(s', b))
                      or      target of q2 = r + gamma * q1(s', argmax_b q2(s', b))

van Hasselt, "Double Q-learning", NeurIPS 2010, algorithm 1. A row holds the values of q1, then
those of q2; the policy acts on their mean. The coin is part of the query's draw, so that the
answer is already the one for the table that will be updated. Of equal values the first one counts
as chosen.
"""

import numpy as np

from hpcq.jit.compiler import template
from hpcq.learning.rule import Rule


@template
def value(q, visits, slot, mask, best, action, draw, parameter):
    """Return what the other table thinks of the best action of the coin's."""
    mine = np.int64(coin(draw)) * ACTIONS
    other = ACTIONS - mine
    chosen, most, found = 0, q[slot, mine], False
    for a in range(ACTIONS):
        candidate = q[slot, mine + a]
        better = permits(mask, a) & (not found or candidate > most)
        most = candidate if better else most
        chosen = a if better else chosen
        found = found or better
    return q[slot, other + chosen]


@template
def acting(q, slot, action):
    """Return the mean of both tables."""
    return (q[slot, action] + q[slot, ACTIONS + action]) * 0.5


RULE = Rule(value, tables=2, acting=acting, supports_lambda=False)
