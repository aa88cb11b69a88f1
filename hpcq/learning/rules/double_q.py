"""Double Q-learning: one table chooses, the other one tells the value.

    with a fair coin, either  target of q1 = r + gamma * q2(s', argmax_b q1(s', b))
                      or      target of q2 = r + gamma * q1(s', argmax_b q2(s', b))

van Hasselt, "Double Q-learning", NeurIPS 2010, algorithm 1. A row holds the values of q1, then
those of q2; the policy acts on their mean. The coin is part of the query's draw, so that the
reply is already the one for the table that will be updated. Of equal values the first one counts
as chosen.
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
