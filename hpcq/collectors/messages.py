"""The environments' side of a tick's messages.

`pack` sends the updates of the previous tick and the queries of this one; `receive` turns replies
into the next action and into the updates that the next tick sends: one for each environment (see
single.py), or with returns of several steps (see windows.py) any number up to these.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from hpcq.collectors import n_step, one_step
from hpcq.collectors.grouping import group, take
from hpcq.collectors.outcome import Outcome
from hpcq.exchange.base import ACKS, FINAL_QUERIES, QUERIES, REPLIES_AT, START, UPDATES
from hpcq.hashing import mix64, owner
from hpcq.jit.compiler import bind, inlined, kernel, template
from hpcq.rng import Purpose, second_draw, word_at

_TRUNCATED = int(Outcome.TRUNCATED)
_TO_BEHAVE = int(Purpose.BEHAVE)
_NONE = np.uint64(0)
# Rows of the cursors.
_UPDATES, _QUERIES, _FINALS = range(3)
CURSORS = 3


@inlined
def _set_mask(message, mask):
    message.mask = mask


@inlined
def _set_no_mask(message, mask):
    pass


@template
def _set_weight(update, weight):
    update.weight = weight


@template
def _set_no_weight(update, weight):
    pass


@template
def _offset_of(reply):
    """Return the first column of the table that a reply's value is for."""
    return np.int64(reply.table) * ACTIONS


@template
def _no_offset(reply):
    return np.int64(0)


@kernel
def _occurs(values, value):
    """Return whether a value is among these; it looks at all of them, many at a time."""
    found = False
    for i in range(values.size):
        found |= values[i] == value
    return found


def _pack(batch, n_step, stream_ids, seed, tick, ranks, sent, outbox, cursors):
    """Write updates and queries of all environments into `outbox`, grouped by owner.

    words        uint64 (n,), the environments' words; with `seed` and `tick` they give the draws
    sent         int64 (ranks, mail.COLUMNS), out: how the messages are grouped
    outbox       out: of each owner in rank order its updates, then its queries: first those about
                 the next states, then those about the last states of truncated episodes
    cursors      uint64 (CURSORS, ranks), scratch
    """
    behave_word = word_at(seed, tick, _TO_BEHAVE)
    updates, queries, finals = cursors[_UPDATES], cursors[_QUERIES], cursors[_FINALS]
    for rank in range(finals.size):
        finals[rank] = _NONE
    # Loops of their own, so that the compiler makes vector instructions of them.
    for i in range(batch.next_owner.size):
        batch.next_owner[i] = owner(batch.next[i], ranks)
    for i in range(batch.draw.size):
        batch.draw[i] = mix64(behave_word ^ stream_ids[i])
    count_updates(batch, n_step, ranks, updates)
    group(batch.next_owner, batch.order, queries)
    truncates = _occurs(batch.outcome, _TRUNCATED)
    if truncates:
        for i in range(batch.outcome.size):
            if batch.outcome[i] == _TRUNCATED:
                take(finals, owner(batch.final[i], ranks))
    start, before, replies = _NONE, _NONE, _NONE
    for rank in range(updates.size):
        count, before = queries[rank] - before, queries[rank]
        asked, acks = count + finals[rank], updates[rank] if ACKNOWLEDGED else _NONE
        sent[rank, START], sent[rank, REPLIES_AT], sent[rank, ACKS] = start, replies, acks
        sent[rank, UPDATES], sent[rank, QUERIES] = updates[rank], asked
        sent[rank, FINAL_QUERIES] = finals[rank]
        replies += acks + asked
        # From here on they are cursors.
        updates[rank], start = start, start + updates[rank]
        queries[rank], start = start, start + count
        finals[rank], start = start, start + finals[rank]
    write_updates(batch, n_step, ranks, sent, updates, outbox)
    end = _NONE
    for rank in range(queries.size):
        first, on = end, queries[rank] - end
        end += np.uint64(sent[rank, QUERIES] - sent[rank, FINAL_QUERIES])
        for k in range(first, end):
            i = np.uint64(batch.order[k])
            query = outbox[k + on]
            query.hash = batch.next[i]
            query.draw = batch.draw[i]
            set_mask(query, batch.next_mask[i])
    if truncates:
        for i in range(batch.outcome.size):
            if batch.outcome[i] == _TRUNCATED:
                query = outbox[take(finals, owner(batch.final[i], ranks))]
                query.hash = batch.final[i]
                query.draw = second_draw(batch.draw[i])
                set_mask(query, batch.final_mask[i])


def _receive(batch, n_step, discount, decay, ranks, sent, replies, cursors):
    """Take the replies to the queries that `pack` wrote; make the next tick's updates.

    discount     gamma; negative where the next state is the other player's
    decay        lambda, of returns of several steps
    cursors      uint64 (CURSORS, ranks), scratch
    """
    finals = cursors[_FINALS]
    if _occurs(batch.outcome, _TRUNCATED):
        for rank in range(finals.size):
            last = sent[rank, REPLIES_AT] + sent[rank, ACKS] + sent[rank, QUERIES]
            finals[rank] = last - sent[rank, FINAL_QUERIES]
        for i in range(batch.outcome.size):
            if batch.outcome[i] == _TRUNCATED:
                reply = replies[take(finals, owner(batch.final[i], ranks))]
                batch.update_target[i] = reply.value
                batch.update_action[i] = offset_of(reply)
    end = _NONE
    for rank in range(finals.size):
        first, on = end, np.uint64(sent[rank, REPLIES_AT] + sent[rank, ACKS]) - end
        end += np.uint64(sent[rank, QUERIES] - sent[rank, FINAL_QUERIES])
        for k in range(first, end):
            i = np.uint64(batch.order[k])
            reply, outcome = replies[k + on], batch.outcome[i]
            value, offset = np.float64(reply.value), offset_of(reply)
            if outcome == _TRUNCATED:
                value, offset = batch.update_target[i], np.int64(batch.update_action[i])
            remember(batch, n_step, i, outcome, value, reply.greedy, offset, discount, decay)
            batch.action[i] = reply.action
    form_updates(batch, discount)
    for i in range(batch.hash.size):
        batch.hash[i] = batch.next[i]
    if MASKED:
        for i in range(batch.mask.size):
            batch.mask[i] = batch.next_mask[i]


class Kernels(NamedTuple):
    """The environments' part of a tick, compiled: see `_pack` and `_receive` for the arguments."""

    pack: Any
    receive: Any


@functools.cache
def kernels(
    actions: int, tables: int, masked: bool, steps: int, cuts_traces: bool, weighted: bool = False
) -> Kernels:
    """Return the kernels for returns of up to `steps` steps.

    Parameters
    ----------
    tables
        of the rule; updates go to column ``table * actions + action``.
    masked
        whether messages carry the legal actions.
    cuts
        whether returns end at the first action that is not greedy.
    weighted
        whether updates carry weights and ask for receipts.
    """
    returns = n_step if steps > 1 else one_step
    sets = {"set_mask": _set_mask if masked else _set_no_mask}
    # One for each kind of record: numba takes a record that begins like another for that one.
    sets["set_weight"] = bind(_set_weight if weighted else _set_no_weight)
    return Kernels(
        bind(
            _pack,
            count_updates=bind(returns.count_updates, group=group, occurs=_occurs, take=take),
            write_updates=bind(returns.write_updates, take=take, **sets),
            set_mask=sets["set_mask"],
            ACKNOWLEDGED=weighted,
        ),
        bind(
            _receive,
            remember=bind(returns.remember, CUTS=cuts_traces),
            form_updates=bind(returns.form_updates, MASKED=masked),
            offset_of=bind(_offset_of, ACTIONS=actions) if tables == 2 else bind(_no_offset),
            MASKED=masked,
        ),
    )
