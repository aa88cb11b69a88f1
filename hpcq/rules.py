"""What a row's owner does: answer queries and apply updates, by the rule of Q-learning.

    q(s, a) += rate * (target - q(s, a))
    target   = r + gamma * max_b q(s', b)      (r alone where s' is terminal)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. The owner of s' answers
with the maximum and with the action that the behaviour policy takes in s'; the rank that steps
the environment forms the target; the owner of s applies it.
"""

import numpy as np

from hpcq.hashing import hi64, second_draw, unit_interval
from hpcq.kernels import kernel
from hpcq.shard import find, insert

MAX_VISITS = np.uint32(0xFFFFFFFF)


def record_types(dtype: np.dtype) -> tuple[np.dtype, np.dtype]:
    """Return the record types of messages (updates and queries) and replies.

    An update is (hash, target, action), a query (hash, draw): the draw stands where target and
    action stand in an update.

    Parameters
    ----------
    dtype
        float32 or float64, as the table's.
    """
    real = np.dtype(dtype)
    action_at = 8 + real.itemsize
    message = np.dtype(
        {
            "names": ["hash", "draw", "target", "action"],
            "formats": ["u8", "u8", real, "u4"],
            "offsets": [0, 8, 8, action_at],
            "itemsize": 16 if real.itemsize == 4 else 24,
        }
    )
    reply = np.dtype([("value", real), ("action", "u4")], align=True)
    return message, reply


@kernel
def epsilon_greedy(q, slot, draw, epsilon):
    """Return (action, greedy value) in the row `slot`; ties are broken at random.

    With probability `epsilon` the action is uniform over all actions.
    """
    actions = q.shape[1]
    best = q[slot, 0]
    ties = 1
    for a in range(1, actions):
        value = q[slot, a]
        if value > best:
            best = value
            ties = 1
        elif value == best:
            ties += 1
    if unit_interval(draw) < epsilon:
        return np.int64(hi64(second_draw(draw), np.uint64(actions))), best
    if ties == actions:
        return np.int64(hi64(second_draw(draw), np.uint64(actions))), best
    skip = np.int64(hi64(second_draw(draw), np.uint64(ties)))
    for a in range(actions):
        if q[slot, a] == best:
            if skip == 0:
                return a, best
            skip -= 1
    return 0, best


@kernel
def answer(table, inbox, counts, epsilon, replies):
    """Answer the queries of all sources, in order, from the table as it stands.

    inbox    messages; of each source in rank order its updates, then its queries
    counts   int64 (ranks, 3): updates, queries and flags of each source
    replies  out: one reply per query, in order
    """
    actions = np.uint64(table.q.shape[1])
    at, n = 0, 0
    for source in range(counts.shape[0]):
        at += counts[source, 0]
        for _ in range(counts[source, 1]):
            query = inbox[at]
            slot = find(table, query.hash)
            if slot < 0:
                replies[n].value = table.q_init
                replies[n].action = hi64(second_draw(query.draw), actions)
            else:
                action, value = epsilon_greedy(table.q, slot, query.draw, epsilon)
                replies[n].value = value
                replies[n].action = action
            at += 1
            n += 1


@kernel
def apply(table, inbox, counts, rate, exponent, done):
    """Apply the updates of all sources, in order, from number `done` on.

    rate      learning rate, unless visits are counted
    exponent  with visits: rate = 1 / (1 + N(s, a)) ** exponent

    Returns the number of updates done: fewer than there are if the shard is full.
    """
    at, n = 0, 0
    by_visits = table.visits.shape[1] > 0
    for source in range(counts.shape[0]):
        for i in range(counts[source, 0]):
            if n >= done:
                update = inbox[at + i]
                slot = insert(table, update.hash)
                if slot < 0:
                    return n
                action = np.int64(update.action)
                if by_visits:
                    visits = table.visits[slot, action]
                    rate = (1.0 + visits) ** -exponent
                    if visits < MAX_VISITS:
                        table.visits[slot, action] = visits + np.uint32(1)
                old = table.q[slot, action]
                table.q[slot, action] = old + rate * (update.target - old)
            n += 1
        at += counts[source, 0] + counts[source, 1]
    return n
