"""The environments of one rank as arrays, and their side of a tick's messages.

A tick goes: the collector steps every environment (fills `reward`, `outcome`, `next`, `final`);
`pack` sends the update of the previous tick and the queries of this one; `receive` turns replies
into the next action and into the update that the next tick sends.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.exchange.mail import QUERIES, REPLIES_AT, START, UPDATES
from hpcq.hashing import mix64, owner
from hpcq.native.kernels import kernel


class Actors(NamedTuple):
    """What every environment is doing: arrays (n,). A pass over them reads only what it needs."""

    hash: NDArray[np.uint64]
    """of the current state"""
    action: NDArray[np.uint32]
    """to be taken there"""
    reward: NDArray[np.float64]
    next: NDArray[np.uint64]
    """hash of the state to act in next"""
    final: NDArray[np.uint64]
    """hash of the last state of a truncated episode"""
    outcome: NDArray[np.uint8]
    """of the last step, see `Outcome`"""
    update_pending: NDArray[np.bool_]
    update_hash: NDArray[np.uint64]
    update_action: NDArray[np.uint32]
    update_target: NDArray[np.float64]
    episode_return: NDArray[np.float64]
    """undiscounted, of the episode so far"""
    elapsed: NDArray[np.int32]
    """steps of the episode so far"""
    episodes: NDArray[np.int64]
    """ended so far"""


def make_actors(count: int) -> Actors:
    """Return the arrays of `count` environments, all zero."""
    kinds = ("u8", "u4", "f8", "u8", "u8", "u1", "?", "u8", "u4", "f8", "f8", "i4", "i8")
    return Actors(*(np.zeros(count, kind) for kind in kinds))


def part_of(actors: Actors, places: slice) -> Actors:
    """Return the arrays of some of the environments: views."""
    columns: Any = (column[places] for column in actors)
    return Actors(*columns)


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
    sent         int64 (ranks, mail.COLUMNS), out: how the messages are grouped
    outbox       out: of each owner in rank order its updates, then its queries
    """
    sent[:, : QUERIES + 1] = 0
    for i in range(actors.next.size):
        if actors.update_pending[i]:
            sent[owner(actors.update_hash[i], ranks), UPDATES] += 1
        if actors.outcome[i] == _TRUNCATED:
            sent[owner(actors.final[i], ranks), QUERIES] += 1
        sent[owner(actors.next[i], ranks), QUERIES] += 1
    # From here on the two counts are cursors; they are restored at the end.
    start, replies = 0, 0
    for rank in range(sent.shape[0]):
        updates, queries = sent[rank, UPDATES], sent[rank, QUERIES]
        sent[rank, START], sent[rank, REPLIES_AT] = start, replies
        sent[rank, UPDATES] = start
        sent[rank, QUERIES] = start + updates
        start += updates + queries
        replies += queries
    for i in range(actors.next.size):
        if actors.update_pending[i]:
            to = owner(actors.update_hash[i], ranks)
            update = outbox[sent[to, UPDATES]]
            update.hash = actors.update_hash[i]
            update.target = actors.update_target[i]
            update.action = actors.update_action[i]
            sent[to, UPDATES] += 1
        if actors.outcome[i] == _TRUNCATED:
            to = owner(actors.final[i], ranks)
            query = outbox[sent[to, QUERIES]]
            query.hash = actors.final[i]
            query.draw = np.uint64(0)
            sent[to, QUERIES] += 1
        to = owner(actors.next[i], ranks)
        query = outbox[sent[to, QUERIES]]
        query.hash = actors.next[i]
        query.draw = mix64(behave_word ^ words[i])
        sent[to, QUERIES] += 1
    # Each cursor now stands at the end of its group.
    for rank in range(sent.shape[0]):
        updates = sent[rank, UPDATES] - sent[rank, START]
        sent[rank, QUERIES] -= sent[rank, UPDATES]
        sent[rank, UPDATES] = updates


@kernel
def receive(actors, gamma, ranks, sent, replies, cursors):
    """Take the replies to the queries that `pack` wrote; make the next tick's updates.

    cursors      int64 (ranks,), scratch
    """
    for rank in range(sent.shape[0]):
        cursors[rank] = sent[rank, REPLIES_AT]
    for i in range(actors.next.size):
        outcome = actors.outcome[i]
        value = 0.0
        if outcome == _TRUNCATED:
            source = owner(actors.final[i], ranks)
            value = np.float64(replies[cursors[source]].value)
            cursors[source] += 1
        source = owner(actors.next[i], ranks)
        reply = replies[cursors[source]]
        cursors[source] += 1
        if outcome == _CONTINUES:
            value = np.float64(reply.value)
        actors.update_pending[i] = outcome != _RESET
        if outcome != _RESET:
            actors.update_hash[i] = actors.hash[i]
            actors.update_action[i] = actors.action[i]
            bootstrap = 0.0 if outcome == _TERMINATED else gamma * value
            actors.update_target[i] = actors.reward[i] + bootstrap
        actors.hash[i] = actors.next[i]
        actors.action[i] = reply.action
