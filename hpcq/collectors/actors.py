"""The environments of one rank as arrays, and their side of a tick's messages.

A tick goes: the collector steps every environment (fills `reward`, `outcome`, `next`, `final`);
`pack` sends the updates of the previous tick and the queries of this one; `receive` turns replies
into the next action and into the updates that the next tick sends: one for each environment, or
with returns of several steps (see windows.py) any number up to these.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors import windows as several
from hpcq.collectors.outcome import Outcome
from hpcq.exchange.mail import QUERIES, RECEIPTS, REPLIES_AT, START, UPDATES
from hpcq.hashing import Purpose, mix64, owner, second_draw, word_at
from hpcq.native.kernels import bind, inlined, template

__all__ = ["Actors", "Outcome", "kernels", "make_actors"]


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
    next_owner: NDArray[np.uint32]
    """the rank that owns `next`"""
    draw: NDArray[np.uint64]
    """for the action in `next`"""
    outcome: NDArray[np.uint8]
    """of the last step, see `Outcome`"""
    update_pending: NDArray[np.bool_]
    update_hash: NDArray[np.uint64]
    update_owner: NDArray[np.uint32]
    """the rank that owns it"""
    update_action: NDArray[np.uint32]
    update_target: NDArray[np.float64]
    episode_return: NDArray[np.float64]
    """undiscounted, of the episode so far"""
    elapsed: NDArray[np.int32]
    """steps of the episode so far"""
    episodes: NDArray[np.int64]
    """ended so far"""
    mask: NDArray[np.uint64]
    """legal actions of `hash`; this and the other masks only where the environment delivers them"""
    next_mask: NDArray[np.uint64]
    """of `next`"""
    final_mask: NDArray[np.uint64]
    """of `final`"""
    update_mask: NDArray[np.uint64]
    """of `update_hash`"""
    update_weight: NDArray[np.float64]
    """factor of its learning rate; only where replay is prioritised"""


def make_actors(count: int) -> Actors:
    """Return the arrays of `count` environments, all zero."""
    steps = ("u8", "u4", "f8", "u8", "u8", "u4", "u8", "u1")
    updates = ("?", "u8", "u4", "u4", "f8")
    episodes = ("f8", "i4", "i8")
    masks = ("u8",) * 4
    return Actors(*(np.zeros(count, kind) for kind in (*steps, *updates, *episodes, *masks, "f8")))


def part_of(arrays: Any, places: slice) -> Any:
    """Return the arrays of some of the environments, views: of `Actors`, or of `Windows`."""
    return type(arrays)(*(column[places] for column in arrays))


_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_BEHAVE = int(Purpose.BEHAVE)


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
def _waiting(actors, windows, i):
    return np.int64(actors.update_pending[i])


@template
def _find_owners(actors, windows, ranks):
    for i in range(actors.update_owner.size):
        actors.update_owner[i] = owner(actors.update_hash[i], ranks)


@template
def _waiting_owner(actors, windows, i, j, ranks):
    return actors.update_owner[i]


@template
def _write_update(actors, windows, i, j, update):
    update.hash = actors.update_hash[i]
    update.target = actors.update_target[i]
    update.column = actors.update_action[i]
    set_mask(update, actors.update_mask[i])
    set_weight(update, actors.update_weight[i])


@template
def _remember(actors, windows, i, outcome, value, greedy, offset, discount, decay):
    actors.update_pending[i] = outcome != _RESET
    if outcome != _RESET:
        actors.update_hash[i] = actors.hash[i]
        actors.update_action[i] = actors.action[i] + offset
        bootstrap = 0.0 if outcome == _TERMINATED else discount * value
        actors.update_target[i] = actors.reward[i] + bootstrap
        if MASKED:
            actors.update_mask[i] = actors.mask[i]


def _pack(actors, windows, words, seed, tick, ranks, sent, outbox):
    """Write updates and queries of all environments into `outbox`, grouped by owner.

    words        uint64 (n,), the environments' words; with `seed` and `tick` they give the draws
    sent         int64 (ranks, mail.COLUMNS), out: how the messages are grouped
    outbox       out: of each owner in rank order its updates, then its queries
    """
    behave_word = word_at(seed, tick, _TO_BEHAVE)
    sent[:, : QUERIES + 1] = 0
    # Loops of their own, so that the compiler makes vector instructions of them.
    find_owners(actors, windows, ranks)
    for i in range(actors.next.size):
        actors.next_owner[i] = owner(actors.next[i], ranks)
    for i in range(actors.draw.size):
        actors.draw[i] = mix64(behave_word ^ words[i])
    for i in range(actors.next.size):
        for j in range(waiting(actors, windows, i)):
            sent[waiting_owner(actors, windows, i, j, ranks), UPDATES] += 1
        if actors.outcome[i] == _TRUNCATED:
            sent[owner(actors.final[i], ranks), QUERIES] += 1
        sent[actors.next_owner[i], QUERIES] += 1
    # From here on the two counts are cursors; they are restored at the end.
    start, replies = 0, 0
    for rank in range(sent.shape[0]):
        updates, queries = sent[rank, UPDATES], sent[rank, QUERIES]
        receipts = updates if RECEIPTED else 0
        sent[rank, RECEIPTS], sent[rank, START], sent[rank, REPLIES_AT] = receipts, start, replies
        sent[rank, UPDATES] = start
        sent[rank, QUERIES] = start + updates
        start += updates + queries
        replies += receipts + queries
    for i in range(actors.next.size):
        for j in range(waiting(actors, windows, i)):
            to = waiting_owner(actors, windows, i, j, ranks)
            write_update(actors, windows, i, j, outbox[sent[to, UPDATES]])
            sent[to, UPDATES] += 1
        if actors.outcome[i] == _TRUNCATED:
            to = owner(actors.final[i], ranks)
            query = outbox[sent[to, QUERIES]]
            query.hash = actors.final[i]
            query.draw = second_draw(actors.draw[i])
            set_mask(query, actors.final_mask[i])
            sent[to, QUERIES] += 1
        to = actors.next_owner[i]
        query = outbox[sent[to, QUERIES]]
        query.hash = actors.next[i]
        query.draw = actors.draw[i]
        set_mask(query, actors.next_mask[i])
        sent[to, QUERIES] += 1
    # Each cursor now stands at the end of its group.
    for rank in range(sent.shape[0]):
        updates = sent[rank, UPDATES] - sent[rank, START]
        sent[rank, QUERIES] -= sent[rank, UPDATES]
        sent[rank, UPDATES] = updates


def _receive(actors, windows, discount, decay, ranks, sent, replies, cursors):
    """Take the replies to the queries that `pack` wrote; make the next tick's updates.

    discount     gamma; negative where the next state is the other player's
    decay        lambda, of returns of several steps
    cursors      int64 (ranks,), scratch
    """
    for rank in range(sent.shape[0]):
        cursors[rank] = sent[rank, REPLIES_AT] + sent[rank, RECEIPTS]
    for i in range(actors.next.size):
        outcome = actors.outcome[i]
        value, offset = 0.0, np.int64(0)
        if outcome == _TRUNCATED:
            source = owner(actors.final[i], ranks)
            final = replies[cursors[source]]
            value = np.float64(final.value)
            if TABLES == 2:
                offset = np.int64(final.table) * ACTIONS
            cursors[source] += 1
        source = actors.next_owner[i]
        reply = replies[cursors[source]]
        cursors[source] += 1
        if outcome == _CONTINUES:
            value = np.float64(reply.value)
        if TABLES == 2 and outcome != _TRUNCATED:
            offset = np.int64(reply.table) * ACTIONS
        remember(actors, windows, i, outcome, value, reply.greedy, offset, discount, decay)
        actors.hash[i] = actors.next[i]
        actors.action[i] = reply.action
        if MASKED:
            actors.mask[i] = actors.next_mask[i]


class Kernels(NamedTuple):
    """The actors' part of a tick, compiled: see `_pack` and `_receive` for the arguments."""

    pack: Any
    receive: Any


@functools.cache
def kernels(
    actions: int, tables: int, masked: bool, steps: int, cuts: bool, weighted: bool = False
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
    sets = {"set_mask": _set_mask if masked else _set_no_mask}
    if steps > 1:
        remember = bind(several.remember, CUTS=cuts)
        waiting, waiting_owner = bind(several.waiting), bind(several.waiting_owner)
        find_owners = bind(several.find_owners)
        write = bind(several.write_update, **sets)
    else:
        remember = bind(_remember, MASKED=masked)
        waiting, waiting_owner = bind(_waiting), bind(_waiting_owner)
        find_owners = bind(_find_owners)
        # One for each kind of record: numba takes a record that begins like another for that one.
        set_weight = bind(_set_weight if weighted else _set_no_weight)
        write = bind(_write_update, **sets, set_weight=set_weight)
    return Kernels(
        bind(
            _pack,
            waiting=waiting,
            waiting_owner=waiting_owner,
            find_owners=find_owners,
            write_update=write,
            RECEIPTED=weighted,
            **sets,
        ),
        bind(_receive, remember=remember, TABLES=tables, ACTIONS=actions, MASKED=masked),
    )
