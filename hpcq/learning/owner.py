"""What a row's owner does: answer queries and apply updates, as rule and policy say.

The owner of s' answers with the action that the policy takes there and with the value that the rule
bootstraps from; the rank that steps the environment forms the target; the owner of s applies it.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from hpcq.exchange.mail import QUERIES, RECEIPTS, UPDATES
from hpcq.learning import choosing
from hpcq.learning.policy import Policy
from hpcq.learning.rule import Rule
from hpcq.native.kernels import bind, inlined, template
from hpcq.native.memory import prefetch, prefetch_to_read
from hpcq.table.rows import NOWHERE, home_slot, insert, probe

# Records whose cache lines are asked for in one go: more are under way together than when each is
# asked for by itself. LEAD: how far each step of the pipeline is ahead of the next. PLACES: a power
# of two, room for all records in the pipeline.
BLOCK = 32
LEAD = 64
PLACES = 256
_RING = np.uint64(PLACES - 1)
# Messages of another rank are in its cache; the processor's own look-ahead is too short for that.
_READ_AHEAD = np.uint64(32)

MAX_VISITS = np.uint32(0xFFFFFFFF)


@inlined
def _keep_none(masks, slot, update):
    pass


@inlined
def _keep_mask(masks, slot, update):
    masks[slot, 0] = update.mask


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


def _answer(table, inbox, parameter, places, replies):
    """Answer the queries of all sources, in rank order, from the table as it stands.

    inbox      `exchange.mail.Inbox`: of each source its updates, then its queries
    parameter  float, of the policy
    places     uint64 (PLACES,), scratch
    replies    `exchange.mail.Replies`, out: behind receipts one reply per query, in order
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, buckets, q_init = table.ranks, table.buckets, table.q_init
    for source in range(inbox.starts.size):
        start = inbox.starts[source] + inbox.counts[source, UPDATES]
        end = start + inbox.counts[source, QUERIES]
        far = inbox.is_far[source]
        box = inbox.far if far else inbox.near
        out = replies.far if far else replies.near
        n = np.uint64(replies.starts[source] + inbox.counts[source, RECEIPTS])
        for block in range(start, end + 2 * LEAD, BLOCK):
            for i in locate(hashes, ranks, buckets, box, block, start, end, places):
                query = box[i]
                slot = probe(hashes, state, places[i & _RING], query.hash)
                draw, mask = query.draw, mask_of(query)
                greedy = True
                if slot == NOWHERE:
                    out[n].value = q_init
                    out[n].action = anything(mask, draw)
                else:
                    best = largest(q, slot, mask)
                    action = choose(q, visits, slot, mask, best, draw, parameter)
                    out[n].value = value(q, visits, slot, mask, best, action, draw, parameter)
                    out[n].action = action
                    greedy = acting(q, slot, action) == best
                if TELLS_GREEDY:
                    out[n].greedy = greedy
                if TABLES == 2:
                    out[n].table = coin(draw)
                n += np.uint64(1)


@inlined
def _note_largest(largest_error, error):
    largest_error[0] = max(largest_error[0], abs(np.float64(error)))


@inlined
def _note_nothing(largest_error, error):
    pass


@inlined
def _give_receipt(replies, far, source, number, error):
    out = replies.far if far else replies.near
    out[replies.starts[source] + number].value = error


@inlined
def _give_none(replies, far, source, number, error):
    pass


# These see records with and without masks, of which the one begins like the other (see records.py):
# each kernel needs its own.
@template
def _weighted(step, update):
    return min(1.0, step * update.weight)


@template
def _unweighted(step, update):
    return step


def _apply(table, inbox, rate, exponent, least, places, done, largest_error=None, replies=None):
    """Apply the updates of all sources, in rank order, from number `done` on.

    rate, exponent, least
        the learning rate is `rate`; where the exponent is above 0, it is
        max(least, rate / (1 + N(s, a)) ** exponent); a weight multiplies it, up to 1
    places
        uint64 (PLACES,), scratch
    largest_error
        float64 (1,), in and out: of all |TD errors|, if the kernel notes them
    replies
        `exchange.mail.Replies`, out: of each source a receipt per update, if the kernel gives them

    Returns the number of updates done: fewer than there are if the shard is full.
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, buckets = table.ranks, table.buckets
    counted, by_visits = visits.shape[1] > 0, exponent > 0.0
    before, step = 0, rate
    for source in range(inbox.starts.size):
        at, updates = inbox.starts[source], inbox.counts[source, UPDATES]
        # Of this source's updates, those numbered before `done` have been applied.
        start, end = at + _clamp(done - before, 0, updates), at + updates
        far = inbox.is_far[source]
        box = inbox.far if far else inbox.near
        for block in range(start, end + 2 * LEAD, BLOCK):
            for i in locate(hashes, ranks, buckets, box, block, start, end, places):
                message = box[i]
                # Inserted rows push others on, never back: the place found still serves.
                slot = probe(hashes, state, places[i & _RING], message.hash)
                if slot == NOWHERE:
                    made = insert(table, message.hash)
                    if made < 0:
                        return before + np.int64(i) - at
                    slot = np.uint64(made)
                column = np.uint64(message.column)
                if counted:
                    earlier = visits[slot, column]
                    if by_visits:
                        step = max(least, rate * (1.0 + earlier) ** -exponent)
                    if earlier < MAX_VISITS:
                        visits[slot, column] = earlier + np.uint32(1)
                error = message.target - q[slot, column]
                note_error(largest_error, error)
                give_receipt(replies, far, source, np.int64(i) - at, error)
                update(q, slot, column, message.target, weighted(step, message))
                keep_mask(table.masks, slot, message)
        before += updates
    return before


class Kernels(NamedTuple):
    """The owner's part of a tick, compiled: see `_answer` and `_apply` for the arguments."""

    answer: Any
    apply: Any


@functools.cache
def kernels(
    rule: Rule,
    policy: Policy,
    actions: int,
    width: int,
    masked: bool = False,
    tells_greedy: bool = False,
    notes_errors: bool = False,
    weighted: bool = False,
) -> Kernels:
    """Return the kernels for rows of `actions` actions, `width` of them to a cache line.

    Known at that time, both let loops unroll: 1.2 times the ticks.

    Parameters
    ----------
    masked
        whether queries and updates carry the legal actions.
    tells_greedy
        whether replies say if the action is greedy.
    notes_errors
        whether the largest |TD error| is kept.
    weighted
        whether updates carry weights and get receipts.
    """
    locate = bind(_locate, WIDTH=width)
    return Kernels(
        bind(
            _answer,
            **choosing.names(rule, policy, actions, masked),
            locate=locate,
            TELLS_GREEDY=tells_greedy,
        ),
        bind(
            _apply,
            locate=locate,
            update=bind(rule.update),
            keep_mask=_keep_mask if masked else _keep_none,
            note_error=_note_largest if notes_errors else _note_nothing,
            give_receipt=_give_receipt if weighted else _give_none,
            weighted=bind(_weighted if weighted else _unweighted),
        ),
    )
