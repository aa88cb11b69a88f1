"""Double Q-learning: one table selects the action, the other evaluates it.

    with a fair coin, either  target of q1 = r + gamma * q2(s', argmax_b q1(s', b))
                      or      target of q2 = r + gamma * q1(s', argmax_b q2(s', b))

van Hasselt, "Double Q-learning", NeurIPS 2010, algorithm 1. A row holds the values of q1, then
those of q2; the policy acts on their mean. The query's random bits pick the table to update, so
the owner replies with the value for that table. Of equal values the first one is selected. Averages
of returns of several steps would mix values for both tables: there are no lambda-returns.
"""

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Bootstrap, Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Bootstrap:
    """Return the kernel of what the other table says of the best action of the drawn one."""
    actions, is_legal, table_of = row.actions, row.is_legal, row.table_of

    @inlined
    def value(at: Query, action: int) -> float:
        mine = np.int64(table_of(at.draw)) * actions
        other = actions - mine
        chosen, most, found = 0, at.q[at.slot, mine], False
        for a in range(actions):
            candidate = at.q[at.slot, mine + a]
            better = is_legal(at.mask, a) & (not found or candidate > most)
            most = candidate if better else most
            chosen = a if better else chosen
            found = found or better
        return at.q[at.slot, other + chosen]

    return value


RULE = Rule(bootstrap, tables=2, supports_lambda=False)
