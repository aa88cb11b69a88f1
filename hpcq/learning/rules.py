"""What a row's owner does: answer queries and apply updates, by the rule of Q-learning.

    q(s, a) += rate * (target - q(s, a))
    target   = r + gamma * max_b q(s', b)      (r alone where s' is terminal)

Watkins and Dayan, "Q-learning", Machine Learning 8, 1992, equation 1. The owner of s' answers
with the maximum and with the action that the behaviour policy takes in s'; the rank that steps
the environment forms the target; the owner of s applies it.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from hpcq.exchange.mail import QUERIES, UPDATES
from hpcq.native.kernels import bind, inlined
from hpcq.native.memory import prefetch, prefetch_to_read
from hpcq.table.shard import NOWHERE, home_slot, insert, probe

# Records whose cache lines are asked for in one go: more are under way together than when each is
# asked for by itself. LEAD: how far each step of the pipeline is ahead of the next. PLACES: a power
# of two, room for all records in the pipeline.
BLOCK = 16
LEAD = 64
PLACES = 256
_RING = np.uint64(PLACES - 1)
# Messages of another rank are in its cache; the processor's own look-ahead is too short for that.
_READ_AHEAD = np.uint64(32)

MAX_VISITS = np.uint32(0xFFFFFFFF)

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


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


@inlined
def _pick(draw, candidates):
    """Return a number in 0 ... `candidates` - 1 from the lower half of a draw."""
    return np.int64(((draw & _LOW) * np.uint64(candidates)) >> _HALF)


def _epsilon_greedy(q, slot, draw, threshold):
    """Return (action, greedy value) in the row `slot`; ties are broken at random.

    The action is uniform over all actions where the draw's upper half is below `threshold`.
    """
    # Without branches: whether a row has ties, and which, cannot be predicted.
    best = q[slot, 0]
    for a in range(1, ACTIONS):
        value = q[slot, a]
        best = value if value > best else best
    explore = (draw >> _HALF) < threshold
    candidates = 0
    for a in range(ACTIONS):
        candidates += explore | (q[slot, a] == best)
    skip = _pick(draw, candidates)
    passed, chosen = 0, 0
    for a in range(ACTIONS - 1):
        passed += explore | (q[slot, a] == best)
        chosen += passed <= skip
    return chosen, best


@inlined
def _span(start, stop):
    """Return the range of unsigned numbers: as an index, one need not be checked for its sign."""
    return range(np.uint64(start), np.uint64(stop))


@inlined
def _clamp(value, least, most):
    return min(max(value, least), most)


def _locate(hashes, ranks, buckets, box, block, start, end, places):
    """Bring the rows of the messages `start` ... `end` - 1 near, in three steps of a pipeline.

    The lines of `block` are asked for; those of the block LEAD before have come meanwhile: if a row
    is not there, the line after is asked for. The rows of the block 2 LEAD before are at hand then.
    No step branches on what it reads.

    places   uint64 (PLACES,), in and out: slots from which the rows are at most a short probe away

    Returns the range of the messages whose rows are at hand.
    """
    for i in _span(min(end, block), min(end, block + BLOCK)):
        slot = np.uint64(home_slot(box[i].hash, ranks, buckets, WIDTH))
        places[i & _RING] = slot
        prefetch(hashes, slot)
        prefetch_to_read(box, i + _READ_AHEAD)
    block -= LEAD
    for i in _span(_clamp(block, start, end), _clamp(block + BLOCK, start, end)):
        slot = places[i & _RING]
        hash_ = box[i].hash
        ahead = np.uint64(0)
        for k in range(WIDTH):
            ahead += np.uint64(hashes[slot + np.uint64(k), 0] < hash_)
        places[i & _RING] = slot + ahead
        prefetch(hashes, slot + ahead)
    block -= LEAD
    return _span(_clamp(block, start, end), _clamp(block + BLOCK, start, end))


def _answer(table, inbox, epsilon, places, replies):
    """Answer the queries of all sources, in rank order, from the table as it stands.

    inbox    `exchange.mail.Inbox`: of each source its updates, then its queries
    places   uint64 (PLACES,), scratch
    replies  `exchange.mail.Replies`, out: one reply per query of a source, in order
    """
    threshold = np.uint64(epsilon * 4294967296.0)
    hashes, q, state, q_init = table.hashes, table.q, table.state, table.q_init
    ranks, buckets = table.ranks, table.buckets
    for source in range(inbox.starts.size):
        start = inbox.starts[source] + inbox.counts[source, UPDATES]
        end = start + inbox.counts[source, QUERIES]
        far = inbox.is_far[source]
        box = inbox.far if far else inbox.near
        out = replies.far if far else replies.near
        n = np.uint64(replies.starts[source])
        for block in range(start, end + 2 * LEAD, BLOCK):
            for i in locate(hashes, ranks, buckets, box, block, start, end, places):
                query = box[i]
                slot = probe(hashes, state, places[i & _RING], query.hash)
                if slot == NOWHERE:
                    out[n].value = q_init
                    out[n].action = _pick(query.draw, ACTIONS)
                else:
                    action, value = policy(q, slot, query.draw, threshold)
                    out[n].value = value
                    out[n].action = action
                n += np.uint64(1)


@inlined
def _note_largest(largest_error, error):
    largest_error[0] = max(largest_error[0], abs(np.float64(error)))


@inlined
def _note_nothing(largest_error, error):
    pass


def _apply(table, inbox, rate, exponent, places, done, largest_error=None):
    """Apply the updates of all sources, in rank order, from number `done` on.

    rate      learning rate, unless visits are counted
    exponent  with visits: rate = 1 / (1 + N(s, a)) ** exponent
    places    int64 (PLACES,), scratch
    largest_error
              float64 (1,), in and out: of all |TD errors|, if the kernel notes them

    Returns the number of updates done: fewer than there are if the shard is full.
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, buckets = table.ranks, table.buckets
    counted, by_visits = visits.shape[1] > 0, exponent > 0.0
    before = 0
    for source in range(inbox.starts.size):
        at, updates = inbox.starts[source], inbox.counts[source, UPDATES]
        # Of this source's updates, those numbered before `done` have been applied.
        start, end = at + _clamp(done - before, 0, updates), at + updates
        box = inbox.far if inbox.is_far[source] else inbox.near
        for block in range(start, end + 2 * LEAD, BLOCK):
            for i in locate(hashes, ranks, buckets, box, block, start, end, places):
                update = box[i]
                # Inserted rows push others on, never back: the place found still serves.
                slot = probe(hashes, state, places[i & _RING], update.hash)
                if slot == NOWHERE:
                    made = insert(table, update.hash)
                    if made < 0:
                        return before + np.int64(i) - at
                    slot = np.uint64(made)
                action = np.uint64(update.action)
                if counted:
                    earlier = visits[slot, action]
                    if by_visits:
                        rate = (1.0 + earlier) ** -exponent
                    if earlier < MAX_VISITS:
                        visits[slot, action] = earlier + np.uint32(1)
                old = q[slot, action]
                note_error(largest_error, update.target - old)
                q[slot, action] = old + rate * (update.target - old)
        before += updates
    return before


class Kernels(NamedTuple):
    """The owner's part of a tick, compiled: see `_answer` and `_apply` for the arguments."""

    answer: Any
    apply: Any


@functools.cache
def kernels(actions: int, width: int, notes_errors: bool = False) -> Kernels:
    """Return the kernels for rows of `actions` Q-values, `width` of them to a cache line.

    Known at that time, both let loops unroll: 1.2 times the ticks.
    """
    locate = bind(_locate, WIDTH=width)
    policy = bind(_epsilon_greedy, ACTIONS=actions)
    note_error = _note_largest if notes_errors else _note_nothing
    return Kernels(
        bind(_answer, ACTIONS=actions, locate=locate, policy=policy),
        bind(_apply, locate=locate, note_error=note_error),
    )
