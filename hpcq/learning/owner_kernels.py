"""What a row's owner does: answer queries and apply updates, as rule and policy say.

The owner of s' answers with the action that the policy takes there and with the value that the rule
bootstraps from; the rank that steps the environment forms the target; the owner of s applies it.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from hpcq.exchange.base import ACKS, QUERIES, UPDATES
from hpcq.exchange.records import NO_COLUMN
from hpcq.jit.compiler import bind, inlined, template
from hpcq.learning import action_selection, prefetch
from hpcq.learning.policy import Policy
from hpcq.learning.prefetch import (
    BLOCK,
    EVERY,
    PREFETCH_DISTANCE,
    RING,
    clamp,
    hints_valid,
    prefetch_hinted,
)
from hpcq.learning.rule import Rule
from hpcq.table.hash_table import holds, insert, probe

MAX_VISITS = np.uint32(0xFFFFFFFF)


@inlined
def _keep_none(masks, slot, update):
    pass


@inlined
def _keep_mask(masks, slot, update):
    masks[slot, 0] = update.mask


def _answer(table, inbox, parameter, hints, replies):
    """Answer the queries of all sources, in rank order, from the table as it stands.

    inbox      `exchange.mail.Inbox`: of each source its updates, then its queries
    parameter  float, of the policy
    seen       `prefetch.SlotHints`, out: where the rows are
    replies    `exchange.mail.Replies`, out: behind receipts one reply per query, in order

    Returns -1, or, with nothing done, for how many queries `hints` needs room.
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, buckets, q_init, places = table.ranks, table.buckets, table.q_init, hints.slots
    total = 0
    for source in range(inbox.starts.size):
        hints.starts[source] = total
        total += inbox.counts[source, QUERIES]
    if total > places.size:
        return total
    for source in range(inbox.starts.size):
        start = inbox.starts[source] + inbox.counts[source, UPDATES]
        end = start + inbox.counts[source, QUERIES]
        remote = inbox.is_remote[source]
        box = inbox.remote if remote else inbox.local
        out = replies.remote if remote else replies.local
        # What is written goes with the number of the message, that far on.
        as_seen = np.uint64(hints.starts[source] - start)
        as_reply = np.uint64(replies.starts[source] + inbox.counts[source, ACKS] - start)
        for block in range(start, end + 2 * PREFETCH_DISTANCE, BLOCK):
            for i in prefetch_rows(
                hashes, ranks, buckets, box, block, start, end, places, as_seen, EVERY
            ):
                query = box[i]
                slot = probe(hashes, places[i + as_seen], query.hash)
                places[i + as_seen] = slot
                reply, greedy = out[i + as_reply], True
                draw, mask = query.draw, mask_of(query)
                if holds(hashes, state, slot, query.hash):
                    best = largest(q, slot, mask)
                    action = choose(q, visits, slot, mask, best, draw, parameter)
                    reply.value = value(q, visits, slot, mask, best, action, draw, parameter)
                    reply.action = action
                    greedy = acting(q, slot, action) == best
                else:
                    reply.value = q_init
                    reply.action = anything(mask, draw)
                if TELLS_GREEDY:
                    reply.greedy = greedy
                if TABLES == 2:
                    reply.table = coin(draw)
    return -1


@inlined
def _note_largest(largest_error, error):
    largest_error[0] = max(largest_error[0], abs(np.float64(error)))


@inlined
def _note_nothing(largest_error, error):
    pass


@inlined
def _give_receipt(replies, remote, source, number, error):
    out = replies.remote if remote else replies.local
    out[replies.starts[source] + number].value = error


@inlined
def _give_none(replies, remote, source, number, error):
    pass


# These see records with and without masks, of which the one begins like the other (see records.py):
# each kernel needs its own.
@template
def _weighted(step, update):
    return min(1.0, step * update.weight)


@template
def _unweighted(step, update):
    return step


def _apply(
    table, inbox, rate, exponent, least, ring, hints, done, largest_error=None, replies=None
):
    """Apply the updates of all sources, in rank order, from number `done` on.

    rate, exponent, least
        the learning rate is `rate`; where the exponent is above 0, it is
        max(least, rate / (1 + N(s, a)) ** exponent); a weight multiplies it, up to 1
    ring
        uint64 (PLACES,), scratch of `prefetch`
    seen
        `prefetch.SlotHints`: where the rows may be
    largest_error
        float64 (1,), in and out: of all |TD errors|, if the kernel notes them
    replies
        `exchange.mail.Replies`, out: of each source a receipt per update, if the kernel gives them

    Returns -1, or, if the shard is full, the number of updates done.
    """
    hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
    ranks, buckets = table.ranks, table.buckets
    counted, by_visits = visits.shape[1] > 0, exponent > 0.0
    before, step = 0, rate
    for source in range(inbox.starts.size):
        at, updates = inbox.starts[source], inbox.counts[source, UPDATES]
        # Of this source's updates, those numbered before `done` have been applied.
        start, end = at + clamp(done - before, 0, updates), at + updates
        remote = inbox.is_remote[source]
        box = inbox.remote if remote else inbox.local
        known = hints_valid(hashes, hints, source, box, at, updates)
        places, on, mask = ring, np.uint64(0), RING
        if known:
            places, on, mask = hints.slots, np.uint64(hints.starts[source] - at), EVERY
        for block in range(start, end + 2 * PREFETCH_DISTANCE, BLOCK):
            if known:
                ready = prefetch_hinted(hashes, box, block, start, end, places, on)
            else:
                ready = prefetch_rows(
                    hashes, ranks, buckets, box, block, start, end, places, on, mask
                )
            for i in ready:
                message = box[i]
                if message.column == NO_COLUMN:
                    continue
                # Inserted rows push others on, never back: the place found still serves.
                slot = probe(hashes, places[(i + on) & mask], message.hash)
                if not holds(hashes, state, slot, message.hash):
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
                record_error(largest_error, error)
                give_receipt(replies, remote, source, np.int64(i) - at, error)
                update(q, slot, column, message.target, weighted(step, message))
                keep_mask(table.masks, slot, message)
        before += updates
    return -1


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
    prefetch_rows = bind(prefetch.prefetch_rows, WIDTH=width)
    return Kernels(
        bind(
            _answer,
            **action_selection.names(rule, policy, actions, masked),
            prefetch_rows=prefetch_rows,
            TELLS_GREEDY=tells_greedy,
        ),
        bind(
            _apply,
            prefetch_rows=prefetch_rows,
            update=bind(rule.update),
            keep_mask=_keep_mask if masked else _keep_none,
            record_error=_note_largest if notes_errors else _note_nothing,
            give_receipt=_give_receipt if weighted else _give_none,
            weighted=bind(_weighted if weighted else _unweighted),
        ),
    )
