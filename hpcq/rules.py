"""What a row's owner does: answer queries and apply updates, by the rule of Q-learning.

    q(s, a) += rate * (target - q(s, a))
    target   = r + gamma * max_b q(s', b)      (r alone where s' is terminal)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. The owner of s' answers
with the maximum and with the action that the behaviour policy takes in s'; the rank that steps
the environment forms the target; the owner of s applies it.
"""

import functools

import numpy as np

from hpcq.hashing import hi64, home_slot, second_draw, unit_interval
from hpcq.kernels import bind, kernel
from hpcq.memory import prefetch
from hpcq.shard import insert, probe

# Records whose cache lines are asked for in one go, before the first of them is used: more are
# under way together than when each is asked for a fixed distance ahead.
BLOCK = 64

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


def _epsilon_greedy(q, slot, draw, epsilon):
    """Return (action, greedy value) in the row `slot`; ties are broken at random.

    With probability `epsilon` the action is uniform over all actions.
    """
    # Without branches: whether a row has ties, and which, cannot be predicted.
    best = q[slot, 0]
    for a in range(1, ACTIONS):
        value = q[slot, a]
        best = value if value > best else best
    explore = unit_interval(draw) < epsilon
    candidates = 0
    for a in range(ACTIONS):
        candidates += explore | (q[slot, a] == best)
    skip = np.int64(hi64(second_draw(draw), np.uint64(candidates)))
    chosen = 0
    for a in range(ACTIONS):
        candidate = explore | (q[slot, a] == best)
        chosen = a if candidate & (skip == 0) else chosen
        skip -= candidate
    return chosen, best


@kernel
def _fetch(hashes, ranks, capacity, inbox, start, stop):
    """Ask for the lines in which the rows of the messages `start` ... `stop` - 1 may stand."""
    for i in range(start, stop):
        slot = home_slot(inbox[i].hash, ranks, capacity)
        prefetch(hashes, slot)
        # A row can be displaced into the next line.
        prefetch(hashes, slot + np.uint64(2))


def _answer(table, inbox, counts, epsilon, replies):
    """Answer the queries of all sources, in order, from the table as it stands.

    inbox    messages; of each source in rank order its updates, then its queries
    counts   int64 (ranks, 3): updates, queries and flags of each source
    replies  out: one reply per query, in order
    """
    hashes, q, state = table.hashes, table.q, table.state
    ranks, capacity, q_init = table.ranks, table.capacity, table.q_init
    end, n = 0, 0
    for source in range(counts.shape[0]):
        start = end + counts[source, 0]
        end = start + counts[source, 1]
        for block in range(start, end, BLOCK):
            stop = min(block + BLOCK, end)
            _fetch(hashes, ranks, capacity, inbox, block, stop)
            for i in range(block, stop):
                query = inbox[i]
                slot = probe(hashes, state, ranks, capacity, query.hash)
                if slot < 0:
                    replies[n].value = q_init
                    replies[n].action = hi64(second_draw(query.draw), np.uint64(ACTIONS))
                else:
                    action, value = policy(q, slot, query.draw, epsilon)
                    replies[n].value = value
                    replies[n].action = action
                n += 1


@functools.cache
def answer_kernel(actions):
    """Return the kernel that answers queries, compiled for rows of `actions` Q-values.

    Known at that time, their number lets the loops over a row unroll: 1.2 times the ticks.
    """
    policy = bind(_epsilon_greedy, ACTIONS=actions)
    return bind(_answer, ACTIONS=actions, policy=policy)


@kernel
def apply(table, inbox, counts, rate, exponent, done):
    """Apply the updates of all sources, in order, from number `done` on.

    rate      learning rate, unless visits are counted
    exponent  with visits: rate = 1 / (1 + N(s, a)) ** exponent

    Returns the number of updates done: fewer than there are if the shard is full.
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, capacity = table.ranks, table.capacity
    by_visits = visits.shape[1] > 0
    at, before = 0, 0
    for source in range(counts.shape[0]):
        # Of this source's updates, those numbered before `done` have been applied.
        start = at + min(max(0, done - before), counts[source, 0])
        end = at + counts[source, 0]
        for block in range(start, end, BLOCK):
            stop = min(block + BLOCK, end)
            _fetch(hashes, ranks, capacity, inbox, block, stop)
            for i in range(block, stop):
                update = inbox[i]
                slot = probe(hashes, state, ranks, capacity, update.hash)
                if slot < 0:
                    slot = insert(table, update.hash)
                    if slot < 0:
                        return before + i - at
                action = np.int64(update.action)
                if by_visits:
                    earlier = visits[slot, action]
                    rate = (1.0 + earlier) ** -exponent
                    if earlier < MAX_VISITS:
                        visits[slot, action] = earlier + np.uint32(1)
                old = q[slot, action]
                q[slot, action] = old + rate * (update.target - old)
        before += counts[source, 0]
        at = end + counts[source, 1]
    return before
