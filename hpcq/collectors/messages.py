"""The environments' side of a tick's messages.

`pack` writes the updates of the previous tick and the queries of this one; `receive` turns the
replies into the next actions and into the updates that the next tick sends: one per environment
with one-step returns (one_step.py), up to n per environment with n-step returns (n_step.py).
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors import n_step, one_step
from hpcq.collectors.batch import Outcome
from hpcq.collectors.centring import ENDED, RATE, SPEED
from hpcq.collectors.grouping import group, occurs, take
from hpcq.collectors.returns import ReturnKernels
from hpcq.exchange.base import ACKS, CHANGE, QUERIES, REPLIES_AT, START, UPDATES, VALUES
from hpcq.hashing import mix64, owner
from hpcq.jit.compiler import Kernel, inlined, kernel
from hpcq.job.scheduled import Terms, value_at
from hpcq.rng import Purpose, second_draw, word_at
from hpcq.spaces.mask_kernels import mask_writers
from hpcq.spaces.masks import words_of

_TERMINATED, _TRUNCATED = int(Outcome.TERMINATED), int(Outcome.TRUNCATED)
_TO_BEHAVE = int(Purpose.BEHAVE)
_NONE = np.uint64(0)
_HALF, _LOW, _HIGH = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)

_value_at = inlined(value_at)

# The owner's epsilon where the environments' side decides whether to explore.
DECIDED = 0.5
# Rows of the cursors; FINAL_QUERIES stays until the replies have come: how many of the queries to
# a rank, the last ones, are about the final states of truncated episodes.
_UPDATES, _QUERIES, _FINALS, _FINAL_QUERIES = range(4)
CURSORS = 4


class Kernels(NamedTuple):
    """The environments' part of a tick, compiled: see `_make_pack` and `_make_receive`."""

    pack: Any
    receive: Any


@functools.cache
def kernels(
    actions: int,
    tables: int,
    masked: bool,
    steps: int,
    cuts_traces: bool,
    weighted: bool = False,
    entries: int = 0,
) -> Kernels:
    """Return the kernels for returns of up to `steps` steps.

    Other records need other kernels: numba takes a record for another one that begins with the same
    fields.

    Parameters
    ----------
    tables
        of the rule; updates go to column ``table * actions + action``.
    masked
        whether messages carry the legal actions.
    cuts_traces
        whether returns end at the first action that is not greedy.
    weighted
        whether updates carry weights, and are acknowledged with their TD errors.
    entries
        of a batch for one environment, the first one its live transition, where epsilon follows the
        environment's own episodes; else 0.
    """
    words = words_of(actions, masked)
    if steps > 1:
        returns = n_step.make_kernels(words, cuts_traces)
    else:
        returns = one_step.make_kernels(words, weighted)
    return Kernels(
        _make_pack(returns, words, weighted, entries),
        _make_receive(returns, actions, tables, words),
    )


def _make_draw_of(entries: int) -> Kernel:
    """Return the kernel that makes the draw of a query, of which the owner takes the action.

    Where epsilon follows the episodes of the environment, which the owner does not know, it is
    decided here whether to explore: the upper half of the draw is then below or above every
    epsilon. So the action depends on the job and on the environment alone, not on the ranks.
    """

    @inlined
    def as_drawn(batch: Any, i: Any, draw: np.uint64, exploration: Terms) -> np.uint64:
        return draw

    @inlined
    def decided(batch: Any, i: Any, draw: np.uint64, exploration: Terms) -> np.uint64:
        live = np.int64(i) - np.int64(i) % entries
        epsilon = _value_at(exploration, np.float64(batch.episodes[live]))
        explores = (draw >> _HALF) < np.uint64(epsilon * 4294967296.0)
        return (draw & _LOW) | (_NONE if explores else _HIGH)

    return decided if entries else as_drawn


def _make_pack(returns: ReturnKernels, mask_words: int, acknowledged: bool, entries: int) -> Any:
    """Return the kernel that writes updates and queries into `outbox`, grouped by owner.

    Its arguments:

    stream_ids   uint64 (n,), see `rng.streams_of`; with `seed` and `tick` they give the
                 draws
    sent         int64 (ranks, exchange.base.COLUMNS), out: how the messages are grouped
    outbox       out: for each owner in rank order its updates, then its queries: first those about
                 the next states, then those about the final states of truncated episodes
    cursors      uint64 (CURSORS, ranks), scratch, and kept for `receive`
    exploration  epsilon by the episodes of the environment, where it follows them
    changes      int64 (2,), see `centring.Centre`; sent, and begun anew
    """
    count_updates, write_updates = returns.count_updates, returns.write_updates
    draw_of, send_mask = _make_draw_of(entries), mask_writers(mask_words).send

    @kernel
    def pack(
        tick: int,
        batch: Any,
        windows: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        ranks: np.uint64,
        sent: NDArray[np.int64],
        outbox: Any,
        cursors: NDArray[np.uint64],
        exploration: Terms,
        changes: NDArray[np.int64],
    ) -> None:
        behave_word = word_at(seed, tick, _TO_BEHAVE)
        updates, queries, finals = cursors[_UPDATES], cursors[_QUERIES], cursors[_FINALS]
        final_queries = cursors[_FINAL_QUERIES]
        for rank in range(finals.size):
            finals[rank] = _NONE
        # Loops of their own, so that they vectorise.
        for i in range(batch.next_owner.size):
            batch.next_owner[i] = owner(batch.next_hash[i], ranks)
        for i in range(batch.draw.size):
            batch.draw[i] = mix64(behave_word ^ stream_ids[i])
        count_updates(batch, windows, ranks, updates)
        group(batch.next_owner, batch.next_order, queries)
        truncates = occurs(batch.outcome, _TRUNCATED)
        if truncates:
            for i in range(batch.outcome.size):
                if batch.outcome[i] == _TRUNCATED:
                    take(finals, owner(batch.final_hash[i], ranks))
        start, before, replies = _NONE, _NONE, _NONE
        for rank in range(updates.size):
            count, before = queries[rank] - before, queries[rank]
            asked, acks = count + finals[rank], updates[rank] if acknowledged else _NONE
            sent[rank, START], sent[rank, REPLIES_AT], sent[rank, ACKS] = start, replies, acks
            sent[rank, UPDATES], sent[rank, QUERIES] = updates[rank], asked
            sent[rank, CHANGE], sent[rank, VALUES] = changes[0], changes[1]
            final_queries[rank] = finals[rank]
            replies += acks + asked
            # Counts become cursors: where the messages of each kind begin.
            updates[rank], start = start, start + updates[rank]
            queries[rank], start = start, start + count
            finals[rank], start = start, start + finals[rank]
        changes[0] = 0
        write_updates(batch, windows, ranks, sent, updates, outbox)
        end = _NONE
        for rank in range(queries.size):
            first, on = end, queries[rank] - end
            end += np.uint64(sent[rank, QUERIES]) - final_queries[rank]
            for k in range(first, end):
                env = np.uint64(batch.next_order[k])
                query = outbox[k + on]
                query.hash = batch.next_hash[env]
                query.draw = draw_of(batch, env, batch.draw[env], exploration)
                if mask_words:
                    send_mask(query, batch.next_mask[env])
        if truncates:
            for i in range(batch.outcome.size):
                if batch.outcome[i] == _TRUNCATED:
                    query = outbox[take(finals, owner(batch.final_hash[i], ranks))]
                    query.hash = batch.final_hash[i]
                    query.draw = draw_of(batch, i, second_draw(batch.draw[i]), exploration)
                    if mask_words:
                        send_mask(query, batch.final_mask[i])

    return pack


def _make_receive(returns: ReturnKernels, actions: int, tables: int, mask_words: int) -> Any:
    """Return the kernel that takes the replies to what `pack` wrote, and makes the next updates.

    Its arguments:

    discount     gamma; negative where the next state is the other player's
    decay        lambda, of returns of several steps
    cursors      uint64 (CURSORS, ranks), as `pack` left them
    centre       float64, `centring.Centre.numbers`: the mean that is subtracted from rewards
    """
    add_transition, form_updates = returns.add_transition, returns.form_updates
    put_mask = mask_writers(mask_words).put

    @inlined
    def offset_of(reply: Any) -> Any:
        # The first column of the table that a reply's value is for.
        return np.int64(reply.table) * actions if tables > 1 else np.int64(0)

    @kernel
    def receive(
        batch: Any,
        windows: Any,
        discount: float,
        decay: float,
        ranks: np.uint64,
        sent: NDArray[np.int64],
        replies: Any,
        cursors: NDArray[np.uint64],
        centre: NDArray[np.float64],
    ) -> None:
        finals, final_queries, mean = cursors[_FINALS], cursors[_FINAL_QUERIES], centre[RATE]
        if centre[SPEED] > 0.0 and occurs(batch.outcome, _TERMINATED):
            centre[ENDED] = 1.0
        if occurs(batch.outcome, _TRUNCATED):
            for rank in range(finals.size):
                last = sent[rank, REPLIES_AT] + sent[rank, ACKS] + sent[rank, QUERIES]
                finals[rank] = np.uint64(last) - final_queries[rank]
            for i in range(batch.outcome.size):
                if batch.outcome[i] == _TRUNCATED:
                    reply = replies[take(finals, owner(batch.final_hash[i], ranks))]
                    value, offset = np.float64(reply.value), offset_of(reply)
                    add_transition(
                        batch, windows, i, _TRUNCATED, value, True, offset, discount, decay, mean
                    )
        end = _NONE
        for rank in range(finals.size):
            first, on = end, np.uint64(sent[rank, REPLIES_AT] + sent[rank, ACKS]) - end
            end += np.uint64(sent[rank, QUERIES]) - final_queries[rank]
            for k in range(first, end):
                env = np.uint64(batch.next_order[k])
                reply, outcome = replies[k + on], batch.outcome[env]
                value, offset = np.float64(reply.value), offset_of(reply)
                if outcome != _TRUNCATED:
                    add_transition(
                        batch,
                        windows,
                        env,
                        outcome,
                        value,
                        reply.greedy,
                        offset,
                        discount,
                        decay,
                        mean,
                    )
                batch.action[env] = reply.action
        form_updates(batch, mean)
        for i in range(batch.hash.size):
            batch.hash[i] = batch.next_hash[i]
        if mask_words:
            for i in range(batch.mask.shape[0]):
                put_mask(batch.mask, i, batch.next_mask[i])

    return receive
