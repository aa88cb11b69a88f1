"""The outcomes of states, by the rules of an environment, and the states that they lead to.

A block of states is expanded in two passes: `generate` asks the rules, `resolve` looks the states
up. Where actions have one outcome each, a block has one place for every (state, action); else the
outcomes of (state, action) number i end at ``ends[i]``.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.protocol import MAX_REWARD, make_ask_legal
from hpcq.envs.rules import Rules
from hpcq.hashing import mix64, owner, unmix64
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import prefetch, prefetch_to_read
from hpcq.solver.numbering import END, HALO, Hashes, home_of, number_in, number_of, probe
from hpcq.spaces.mask_kernels import mask_tests
from hpcq.spaces.masks import words_of

# Probabilities may miss 1 by so much.
ROUNDING = 1e-9

# What `generate` finds wrong: the sum of probabilities, a probability, a key, a reward; and a state
# without a legal action.
SUM, PROBABILITY, KEY, REWARD, NO_ACTION = range(1, 6)

# Outcomes that are looked up together; before that their slots are fetched, and, half as far ahead,
# the hashes that are probably theirs.
_BLOCK, _AHEAD = 16, 64
# Outcomes that are divided by the owners of their states; what that needs stays in a core's cache.
PART = 1 << 12

# Indices of `counts`: states of this rank and of others, and where there was no room.
OWN, OTHERS, FULL = range(3)


class Fault(NamedTuple):
    """What is wrong with the rules, and where; arrays of one number."""

    kind: NDArray[np.int64]
    state: NDArray[np.uint64]
    action: NDArray[np.int64]
    outcome: NDArray[np.int64]
    value: NDArray[np.float64]


def no_fault() -> Fault:
    """Return what `generate` writes to."""
    return Fault(
        np.zeros(1, np.int64),
        np.zeros(1, np.uint64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.zeros(1),
    )


class Block(NamedTuple):
    """Room for the outcomes of a block of states."""

    hashes: Hashes
    """(n,), of the states that outcomes lead to"""
    numbers: NDArray[np.uint32]
    """(n,), their numbers; END where the episode ends"""
    probability: NDArray[np.float64]
    """(n,), or (1,) where actions have one outcome each"""
    reward: NDArray[np.float64]
    """(states A,), expected; -inf for illegal actions"""
    ends: NDArray[np.uint32]
    """(states A,), or (1,) where actions have one outcome each"""
    leaves: NDArray[np.bool_]
    """(1,), in and out: whether an episode can end"""
    mask: NDArray[np.uint64]
    """(1,), or (1, words): the legal actions of a state"""
    order: NDArray[np.uint32]
    """(2, PART), scratch: which outcomes lead to states of this rank, and which to others'"""
    slots: Hashes
    """(PART,), scratch: where these states are in a table, or may be"""


@functools.cache
def make_generate(rules: Rules, legal: Any, actions: int) -> Any:
    """Return the kernel that writes the outcomes of states; `legal`: None where all actions are."""
    outcome, outcomes, single = rules.outcome, rules.outcomes, rules.outcomes == 1
    masked, (has, has_any) = legal is not None, mask_tests(actions)
    ask_legal = make_ask_legal(legal, words_of(actions, masked))

    @inlined
    def wrong(fault: Fault, kind: Any, key: Any, action: Any, k: Any, value: Any) -> int:
        fault.kind[0], fault.state[0], fault.action[0] = kind, key, action
        fault.outcome[0], fault.value[0] = k, value
        return -1

    @kernel
    def generate(
        model: Any, hashes: Hashes, first: int, last: int, keys: np.uint64, to: Block, fault: Fault
    ) -> int:
        """Write the outcomes of the states `first` ... `last` - 1; return how many, or -1.

        hashes   uint64 (n,), of states
        keys     how many keys there are; 0: any is one
        """
        n, row = 0, 0
        for state in range(first, last):
            key = unmix64(hashes[state])
            ask_legal(model, key, to.mask, 0)
            if masked and not has_any(to.mask[0]):
                return wrong(fault, NO_ACTION, key, 0, 0, 0.0)
            for action in range(actions):
                total, expected, followed = 0.0, 0.0, False
                if masked and not has(to.mask[0], action):
                    total, expected = 1.0, -np.inf
                else:
                    for k in range(outcomes):
                        probability, following, reward, terminated = outcome(model, key, action, k)
                        if not probability >= 0.0:
                            return wrong(fault, PROBABILITY, key, action, k, probability)
                        if probability == 0.0:
                            continue
                        total += probability
                        if not abs(np.float64(reward)) <= MAX_REWARD:
                            return wrong(fault, REWARD, key, action, k, reward)
                        expected += probability * np.float64(reward)
                        if terminated:
                            to.leaves[0] = True
                            continue
                        if keys > np.uint64(0) and np.uint64(following) >= keys:
                            return wrong(fault, KEY, key, action, k, following)
                        to.hashes[n] = mix64(np.uint64(following))
                        to.numbers[n] = 0
                        if single:
                            followed = True
                        else:
                            to.probability[n] = probability
                        n += 1
                if not abs(total - 1.0) <= ROUNDING:
                    return wrong(fault, SUM, key, action, 0, total)
                to.reward[row] = expected
                if not single:
                    to.ends[row] = n
                elif not followed:
                    to.numbers[n] = END
                    n += 1
                row += 1
        return n

    return generate


class Known(NamedTuple):
    """The states that have numbers, and room for more."""

    slots: Hashes
    """see `numbering.Numbering`"""
    hashes: Hashes
    """by number"""
    ranks: np.uint64
    """among which all hashes are divided"""
    most: int
    """states for which there are slots"""


@kernel
def _look_up(
    to: Block,
    order: NDArray[np.uint32],
    known: Known,
    counts: NDArray[np.int64],
    which: int,
    base: int,
) -> bool:
    """Give the states of some outcomes numbers; return False where there was no room for one.

    order   uint32 (n,), the outcomes
    which   OWN or OTHERS: whose states these are
    base    what is added to their numbers
    """
    size, slots = order.size, to.slots
    for block in range(-_AHEAD, size, _BLOCK):
        first = block + _AHEAD
        for k in range(first, min(size, first + _BLOCK)):
            slots[k] = home_of(known.slots, to.hashes[order[k]], known.ranks)
            prefetch(known.slots, slots[k])
        first = block + _AHEAD // 2
        for k in range(max(0, first), min(size, first + _BLOCK)):
            slots[k] = probe(known.slots, slots[k], to.hashes[order[k]])
            number = number_in(known.slots, slots[k])
            if number >= 0:
                prefetch_to_read(known.hashes, np.uint64(number))
        for k in range(max(0, block), min(size, block + _BLOCK)):
            hash_, following = to.hashes[order[k]], counts[which]
            number = number_of(known.slots, known.hashes, slots[k], hash_, following, known.most)
            if number < 0:
                counts[FULL] = which
                return False
            if number == following:
                known.hashes[number] = hash_
                counts[which] += 1
            to.numbers[order[k]] = base + number
    return True


@kernel
def resolve(
    to: Block,
    start: int,
    stop: int,
    rank: np.uint64,
    ranks: np.uint64,
    own: Known,
    others: Known,
    counts: NDArray[np.int64],
) -> int:
    """Look up the states of the outcomes `start` ... `stop` - 1; give new ones numbers.

    counts       int64 (3,), in and out: see OWN

    Returns `stop`; or from which outcome on to go on once there is room in `own` or in `others`, as
    ``counts[FULL]`` says. Some behind it may have their numbers: they will get the same ones.
    """
    mine, theirs = to.order[OWN], to.order[OTHERS]
    for first in range(start, stop, PART):
        n, m = np.uint64(0), np.uint64(0)
        # Without branches: whose state it is cannot be predicted.
        for i in range(first, min(stop, first + PART)):
            goes_on, owned = to.numbers[i] != END, owner(to.hashes[i], ranks) == rank
            mine[n], theirs[m] = i, i
            n += np.uint64(goes_on & owned)
            m += np.uint64(goes_on & (not owned))
        if not _look_up(to, mine[:n], own, counts, OWN, 0):
            return first
        if not _look_up(to, theirs[:m], others, counts, OTHERS, HALO):
            return first
    return stop


@functools.cache
def make_starts(rules: Rules) -> Any:
    """Return the kernel that writes the start states of a rank."""
    start = rules.start

    @kernel
    def starts(
        model: Any,
        first: int,
        last: int,
        rank: np.uint64,
        ranks: np.uint64,
        hashes: Hashes,
        probability: NDArray[np.float64],
    ) -> int:
        """Write the start states `first` ... `last` - 1 that `rank` owns; return how many."""
        n = 0
        for i in range(first, last):
            chance, key = start(model, i)
            hash_ = mix64(np.uint64(key))
            if chance > 0.0 and owner(hash_, ranks) == rank:
                hashes[n], probability[n] = hash_, chance
                n += 1
        return n

    return starts


@kernel
def renumber(places: NDArray[np.uint32], own: int, place: NDArray[np.uint32], end: int) -> None:
    """Replace numbers of states by places in the vector of values.

    place   uint32, of the other ranks' states, behind those of this rank
    end     the place of the value 0, where episodes end
    """
    for i in range(places.size):
        number = places[i]
        if number == END:
            places[i] = end
        elif number >= HALO:
            places[i] = own + place[number - HALO]
