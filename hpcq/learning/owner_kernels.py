"""What a row's owner does: answer queries and apply updates, as rule and policy say.

The owner of s' answers with the action that the policy takes there and with the value that the rule
bootstraps from; the rank that steps the environment forms the target; the owner of s applies it.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.centring import HORIZON, LIMIT, RATE, SCALE, Centre, as_integer, follow
from hpcq.exchange.base import ACKS, QUERIES, UPDATES
from hpcq.exchange.records import NO_COLUMN
from hpcq.jit.compiler import kernel
from hpcq.job.schedules import Decay
from hpcq.learning.action_selection import Query, RowKernels, make_mask_of
from hpcq.learning.interval_kernels import add_value, begin_sums
from hpcq.learning.policy import Policy
from hpcq.learning.prefetch import (
    BLOCK,
    EVERY,
    PREFETCH_DISTANCE,
    RING,
    SlotHints,
    clamp,
    hints_valid,
    make_prefetch_rows,
    prefetch_hinted,
)
from hpcq.learning.rule import Rule
from hpcq.spaces.mask_kernels import mask_writers
from hpcq.spaces.masks import words_of
from hpcq.table.hash_table import ROWS, Table, holds, insert, probe

MAX_VISITS = np.uint32(0xFFFFFFFF)


class OwnerKernels(NamedTuple):
    """The owner's part of a tick, compiled: see `make_answer` and `make_apply`."""

    answer: Any
    apply: Any


def make_answer(
    rule: Rule, policy: Policy, row: RowKernels, width: int, words: int, tells_greedy: bool
) -> Any:
    """Return the kernel that answers queries.

    Parameters
    ----------
    width
        slots of a bucket.
    words
        of a mask; 0: queries carry none.
    tells_greedy
        whether replies say if the action is greedy.
    """
    chosen = policy.make(row)
    choose, bootstrap = chosen.choose, rule.bootstrap(row, chosen)
    behaviour_value, largest = row.behaviour_value, row.largest
    sample_legal, table_of = row.sample_legal, row.table_of
    prefetch_rows, mask_of = make_prefetch_rows(width), make_mask_of(words)
    several_tables = row.tables > 1

    @kernel
    def answer(table: Table, inbox: Any, parameter: float, hints: SlotHints, replies: Any) -> int:
        """Answer the queries of all sources, in rank order, from the table as it stands.

        inbox      `exchange.base.Inbox`: of each source its updates, then its queries
        parameter  of the policy
        hints      out: the slots of the rows
        replies    `exchange.base.Replies`, out: behind acks one reply per query, in order

        Returns -1, or, with nothing done, for how many queries `hints` needs room.
        """
        hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
        ranks, buckets, q_init, slots = table.ranks, table.buckets, table.q_init, hints.slots
        total = 0
        for source in range(inbox.starts.size):
            hints.starts[source] = total
            total += inbox.counts[source, QUERIES]
        if total > slots.size:
            return total
        for source in range(inbox.starts.size):
            start = inbox.starts[source] + inbox.counts[source, UPDATES]
            end = start + inbox.counts[source, QUERIES]
            remote = inbox.is_remote[source]
            box = inbox.remote if remote else inbox.local
            out = replies.remote if remote else replies.local
            # From the number of a message to the places of its hint and of its reply.
            hint_offset = np.uint64(hints.starts[source] - start)
            reply_offset = np.uint64(replies.starts[source] + inbox.counts[source, ACKS] - start)
            for block in range(start, end + 2 * PREFETCH_DISTANCE, BLOCK):
                for i in prefetch_rows(
                    hashes, ranks, buckets, box, block, start, end, slots, hint_offset, EVERY
                ):
                    query = box[i]
                    slot = probe(hashes, slots[i + hint_offset], query.hash)
                    slots[i + hint_offset] = slot
                    reply, greedy = out[i + reply_offset], True
                    draw, mask = query.draw, mask_of(query)
                    if holds(hashes, state, slot, query.hash):
                        best = largest(q, slot, mask)
                        at = Query(q, visits, slot, mask, best, draw, parameter)
                        action = choose(at)
                        reply.value = bootstrap(at, action)
                        reply.action = action
                        greedy = behaviour_value(q, slot, action) == best
                    else:
                        reply.value = q_init
                        reply.action = sample_legal(mask, draw)
                    if tells_greedy:
                        reply.greedy = greedy
                    if several_tables:
                        reply.table = table_of(draw)
        return -1

    return answer


def make_apply(
    rule: Rule,
    width: int,
    words: int,
    records_errors: bool,
    weighted: bool,
    centred: bool,
    averaged: bool,
) -> Any:
    """Return the kernel that applies updates.

    Parameters
    ----------
    width
        slots of a bucket.
    words
        of a mask; 0: updates carry none.
    records_errors
        whether the largest |TD error| is kept.
    weighted
        whether updates carry weights, and are acknowledged with their TD errors.
    centred
        whether the mean reward follows the changes.
    averaged
        whether values are averaged over their updates.
    """
    update, prefetch_rows = rule.update, make_prefetch_rows(width)
    keep_mask = mask_writers(words).keep

    @kernel
    def apply(
        table: Table,
        inbox: Any,
        hints: SlotHints,
        replies: Any,
        done: int,
        rate: float,
        decay: Decay,
        ring: NDArray[np.uint64],
        largest_error: NDArray[np.float64],
        centre: Centre,
        after: int,
    ) -> int:
        """Apply the updates of all sources, in rank order, from number `done` on.

        rate, decay
            the learning rate, and how it falls with the updates of a (state, action); a weight
            multiplies it, up to 1
        ring
            (RING_SIZE,), scratch
        hints
            the slots at which the rows may be
        largest_error
            (1,), in and out: of all |TD errors|, if they are recorded
        centre
            in and out: the mean reward, if rewards are centred
        after
            updates of a value that its average leaves out
        replies
            `exchange.base.Replies`, out: of each source an ack per update, if it is asked for

        Returns -1, or, if the shard is full, the number of updates done.
        """
        hashes, q, visits, state = table.hashes, table.q, table.visits, table.state
        ranks, buckets = table.ranks, table.buckets
        counted, by_visits = visits.shape[1] > 0, decay.exponent > 0.0
        before, step = 0, rate
        # In registers: stores to tables could be to these arrays, for all that the compiler knows.
        changed, scale, limit = np.int64(0), centre.numbers[SCALE], centre.numbers[LIMIT]
        if centred:
            follow(centre, inbox.counts)
        shift = centre.numbers[RATE] * centre.numbers[HORIZON]
        for source in range(inbox.starts.size):
            at, updates = inbox.starts[source], inbox.counts[source, UPDATES]
            # Of this source's updates, those numbered before `done` have been applied.
            start, end = at + clamp(done - before, 0, updates), at + updates
            remote = inbox.is_remote[source]
            box = inbox.remote if remote else inbox.local
            hinted = hints_valid(hashes, hints, source, box, at, updates)
            slots, offset, mask = ring, np.uint64(0), RING
            if hinted:
                slots, offset, mask = hints.slots, np.uint64(hints.starts[source] - at), EVERY
            for block in range(start, end + 2 * PREFETCH_DISTANCE, BLOCK):
                if hinted:
                    ready = prefetch_hinted(hashes, box, block, start, end, slots, offset)
                else:
                    ready = prefetch_rows(
                        hashes, ranks, buckets, box, block, start, end, slots, offset, mask
                    )
                for i in ready:
                    message = box[i]
                    if message.column == NO_COLUMN:
                        continue
                    # Rows that were inserted push others on, never back: the slot still serves.
                    slot = probe(hashes, slots[(i + offset) & mask], message.hash)
                    if not holds(hashes, state, slot, message.hash):
                        made = insert(table, message.hash)
                        if made < 0:
                            centre.changes[0] += changed
                            return before + np.int64(i) - at
                        slot = np.uint64(made)
                        if averaged:
                            begin_sums(q, slot, table.columns, after)
                    column = np.uint64(message.column)
                    if counted:
                        earlier = visits[slot, column]
                        if by_visits:
                            by = (1.0 + decay.slope * earlier) ** -decay.exponent
                            step = max(decay.least, rate * by)
                        if earlier < MAX_VISITS:
                            visits[slot, column] = earlier + np.uint32(1)
                    error = message.target - q[slot, column]
                    if records_errors:
                        largest_error[0] = max(largest_error[0], abs(np.float64(error)))
                    taken = step
                    if weighted:
                        out = replies.remote if remote else replies.local
                        out[replies.starts[source] + np.int64(i) - at].value = error
                        taken = min(1.0, step * message.weight)
                    if centred:
                        changed += as_integer(taken * np.float64(error), scale, limit)
                    update(q, slot, column, message.target, taken)
                    if averaged:
                        add_value(q, slot, table.columns, column, shift)
                    if words:
                        keep_mask(table.masks, slot, message.mask)
            before += updates
        if centred:
            centre.changes[0] += changed
            centre.changes[1] = table.state[ROWS] * table.columns
        return -1

    return apply


@functools.cache
def make_owner_kernels(
    rule: Rule,
    policy: Policy,
    row: RowKernels,
    width: int,
    masked: bool,
    tells_greedy: bool,
    records_errors: bool,
    weighted: bool,
    centred: bool,
    averaged: bool,
) -> OwnerKernels:
    """Return the owner's kernels; see `make_answer` and `make_apply` for the parameters.

    The number of actions, known to the compiler, lets loops unroll: 1.2 times the ticks.
    """
    words = words_of(row.actions, masked)
    return OwnerKernels(
        make_answer(rule, policy, row, width, words, tells_greedy),
        make_apply(rule, width, words, records_errors, weighted, centred, averaged),
    )
