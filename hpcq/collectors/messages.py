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
from hpcq.collectors.grouping import group, occurs, take
from hpcq.collectors.returns import ReturnKernels
from hpcq.exchange.base import ACKS, FINAL_QUERIES, QUERIES, REPLIES_AT, START, UPDATES
from hpcq.hashing import mix64, owner
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import Purpose, second_draw, word_at

_TRUNCATED = int(Outcome.TRUNCATED)
_TO_BEHAVE = int(Purpose.BEHAVE)
_NONE = np.uint64(0)
# Rows of the cursors.
_UPDATES, _QUERIES, _FINALS = range(3)
CURSORS = 3


class Kernels(NamedTuple):
    """The environments' part of a tick, compiled: see `_make_pack` and `_make_receive`."""

    pack: Any
    receive: Any


@functools.cache
def kernels(
    actions: int, tables: int, masked: bool, steps: int, cuts_traces: bool, weighted: bool = False
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
    """
    if steps > 1:
        returns = n_step.make_kernels(masked, cuts_traces)
    else:
        returns = one_step.make_kernels(masked, weighted)
    return Kernels(
        _make_pack(returns, masked, weighted), _make_receive(returns, actions, tables, masked)
    )


def _make_pack(returns: ReturnKernels, masked: bool, acknowledged: bool) -> Any:
    """Return the kernel that writes updates and queries into `outbox`, grouped by owner.

    Its arguments:

    stream_ids   uint64 (n,), see `rng.environment_streams`; with `seed` and `tick` they give the
                 draws
    sent         int64 (ranks, exchange.base.COLUMNS), out: how the messages are grouped
    outbox       out: for each owner in rank order its updates, then its queries: first those about
                 the next states, then those about the final states of truncated episodes
    cursors      uint64 (CURSORS, ranks), scratch
    """
    count_updates, write_updates = returns.count_updates, returns.write_updates

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
    ) -> None:
        behave_word = word_at(seed, tick, _TO_BEHAVE)
        updates, queries, finals = cursors[_UPDATES], cursors[_QUERIES], cursors[_FINALS]
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
            sent[rank, FINAL_QUERIES] = finals[rank]
            replies += acks + asked
            # Counts become cursors: where the messages of each kind begin.
            updates[rank], start = start, start + updates[rank]
            queries[rank], start = start, start + count
            finals[rank], start = start, start + finals[rank]
        write_updates(batch, windows, ranks, sent, updates, outbox)
        end = _NONE
        for rank in range(queries.size):
            first, on = end, queries[rank] - end
            end += np.uint64(sent[rank, QUERIES] - sent[rank, FINAL_QUERIES])
            for k in range(first, end):
                env = np.uint64(batch.next_order[k])
                query = outbox[k + on]
                query.hash = batch.next_hash[env]
                query.draw = batch.draw[env]
                if masked:
                    query.mask = batch.next_mask[env]
        if truncates:
            for i in range(batch.outcome.size):
                if batch.outcome[i] == _TRUNCATED:
                    query = outbox[take(finals, owner(batch.final_hash[i], ranks))]
                    query.hash = batch.final_hash[i]
                    query.draw = second_draw(batch.draw[i])
                    if masked:
                        query.mask = batch.final_mask[i]

    return pack


def _make_receive(returns: ReturnKernels, actions: int, tables: int, masked: bool) -> Any:
    """Return the kernel that takes the replies to what `pack` wrote, and makes the next updates.

    Its arguments:

    discount     gamma; negative where the next state is the other player's
    decay        lambda, of returns of several steps
    cursors      uint64 (CURSORS, ranks), scratch
    """
    add_transition, form_updates = returns.add_transition, returns.form_updates

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
    ) -> None:
        finals = cursors[_FINALS]
        if occurs(batch.outcome, _TRUNCATED):
            for rank in range(finals.size):
                last = sent[rank, REPLIES_AT] + sent[rank, ACKS] + sent[rank, QUERIES]
                finals[rank] = last - sent[rank, FINAL_QUERIES]
            for i in range(batch.outcome.size):
                if batch.outcome[i] == _TRUNCATED:
                    reply = replies[take(finals, owner(batch.final_hash[i], ranks))]
                    value, offset = np.float64(reply.value), offset_of(reply)
                    add_transition(
                        batch, windows, i, _TRUNCATED, value, True, offset, discount, decay
                    )
        end = _NONE
        for rank in range(finals.size):
            first, on = end, np.uint64(sent[rank, REPLIES_AT] + sent[rank, ACKS]) - end
            end += np.uint64(sent[rank, QUERIES] - sent[rank, FINAL_QUERIES])
            for k in range(first, end):
                env = np.uint64(batch.next_order[k])
                reply, outcome = replies[k + on], batch.outcome[env]
                value, offset = np.float64(reply.value), offset_of(reply)
                if outcome != _TRUNCATED:
                    add_transition(
                        batch, windows, env, outcome, value, reply.greedy, offset, discount, decay
                    )
                batch.action[env] = reply.action
        form_updates(batch)
        for i in range(batch.hash.size):
            batch.hash[i] = batch.next_hash[i]
        if masked:
            for i in range(batch.mask.size):
                batch.mask[i] = batch.next_mask[i]

    return receive
