"""The environments of one rank as records, and their side of a tick's messages.

One record per environment. A tick goes: the collector steps every environment (fills `reward`,
`outcome`, `next`, `final`); `pack` sends the update of the previous tick and the queries of this
one; `receive` turns replies into the next action and into the update that the next tick sends.
"""

from enum import IntEnum

import numpy as np

from hpcq.hashing import mix64, owner
from hpcq.kernels import kernel

ACTOR = np.dtype(
    [
        ("hash", "u8"),  # current state
        ("action", "i8"),  # to be taken there
        ("reward", "f8"),
        ("next", "u8"),  # hash of the state to act in next
        ("final", "u8"),  # hash of the last state of a truncated episode
        ("update_hash", "u8"),  # the pending update, if any
        ("update_target", "f8"),
        ("episode_return", "f8"),  # undiscounted, of the episode so far
        ("episodes", "i8"),  # ended so far
        ("update_action", "u4"),
        ("elapsed", "i4"),  # steps of the episode so far
        ("outcome", "u1"),  # of the last step
        ("update_pending", "u1"),
    ],
    align=True,
)


class Outcome(IntEnum):
    """How a step ended. Only TERMINATED stops bootstrapping."""

    CONTINUES = 0
    TERMINATED = 1
    TRUNCATED = 2
    RESET = 3
    """no step: the environment has just been reset by hpcq"""


_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)


@kernel
def pack(actors, words, behave_word, ranks, sent, outbox):
    """Write updates and queries of all environments into `outbox`, grouped by owner.

    words        uint64 (n,), the environments' words; with `behave_word` they give the draws
    sent         int64 (ranks, 3), out: updates and queries to each owner
    outbox       out: of each owner in rank order its updates, then its queries
    """
    sent[:, :2] = 0
    for i in range(actors.size):
        actor = actors[i]
        if actor.update_pending:
            sent[owner(actor.update_hash, ranks), 0] += 1
        if actor.outcome == _TRUNCATED:
            sent[owner(actor.final, ranks), 1] += 1
        sent[owner(actor.next, ranks), 1] += 1
    # From here on column 0 and 1 are cursors; the counts are restored at the end.
    start = 0
    for rank in range(sent.shape[0]):
        updates, queries = sent[rank, 0], sent[rank, 1]
        sent[rank, 0] = start
        sent[rank, 1] = start + updates
        start += updates + queries
    for i in range(actors.size):
        actor = actors[i]
        if actor.update_pending:
            to = owner(actor.update_hash, ranks)
            update = outbox[sent[to, 0]]
            update.hash = actor.update_hash
            update.target = actor.update_target
            update.action = actor.update_action
            sent[to, 0] += 1
        if actor.outcome == _TRUNCATED:
            to = owner(actor.final, ranks)
            query = outbox[sent[to, 1]]
            query.hash = actor.final
            query.draw = np.uint64(0)
            sent[to, 1] += 1
        to = owner(actor.next, ranks)
        query = outbox[sent[to, 1]]
        query.hash = actor.next
        query.draw = mix64(behave_word ^ words[i])
        sent[to, 1] += 1
    # Each cursor now stands at the end of its group.
    start = 0
    for rank in range(sent.shape[0]):
        updates, end = sent[rank, 0] - start, sent[rank, 1]
        sent[rank, 0] = updates
        sent[rank, 1] = end - start - updates
        start = end


@kernel
def receive(actors, gamma, ranks, sent, replies, cursors):
    """Take the replies to the queries that `pack` wrote; make the next tick's updates.

    cursors      int64 (ranks,), scratch
    """
    start = 0
    for rank in range(sent.shape[0]):
        cursors[rank] = start
        start += sent[rank, 1]
    for i in range(actors.size):
        actor = actors[i]
        outcome = actor.outcome
        value = 0.0
        if outcome == _TRUNCATED:
            source = owner(actor.final, ranks)
            value = np.float64(replies[cursors[source]].value)
            cursors[source] += 1
        source = owner(actor.next, ranks)
        reply = replies[cursors[source]]
        cursors[source] += 1
        if outcome == _CONTINUES:
            value = np.float64(reply.value)
        actor.update_pending = outcome != _RESET
        if outcome != _RESET:
            actor.update_hash = actor.hash
            actor.update_action = actor.action
            bootstrap = 0.0 if outcome == _TERMINATED else gamma * value
            actor.update_target = actor.reward + bootstrap
        actor.hash = actor.next
        actor.action = reply.action
