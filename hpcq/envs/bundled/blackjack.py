"""Blackjack by Gymnasium's rules, as a table: an infinite deck, so only sums count.

The observation is Gymnasium's (player's sum, dealer's card, usable ace) and whether the player
holds a natural, an ace and a ten as dealt. Gymnasium hides the last one, though it decides what
sticking pays; with it the table is a Markov decision process and has an exact solution.
Sutton and Barto, "Reinforcement Learning", 2018, example 5.1.
"""

from collections import defaultdict
from functools import cache

import numpy as np

from hpcq.envs import tabular
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError

_CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
_SIZES = (32, 11, 2, 2)
STICK, HIT = 0, 1


def _add(total: int, usable: int, card: int) -> tuple[int, int]:
    """Return (sum, usable ace) of a hand with one more card."""
    hard = total - 10 * usable + card
    ace = usable or card == 1
    return (hard + 10, 1) if ace and hard + 10 <= 21 else (hard, 0)


@cache
def _dealer(total: int, usable: int, cards: int) -> dict[tuple[int, bool], float]:
    """Return the probabilities of the dealer's (score, natural); busts score 0."""
    if total >= 17:
        return {(total if total <= 21 else 0, cards == 2 and total == 21): 1.0}
    found: dict[tuple[int, bool], float] = defaultdict(float)
    for card, p in _CARDS.items():
        for end, q in _dealer(*_add(total, usable, card), cards + 1).items():
            found[end] += p * q
    return dict(found)


def _stick(total: int, dealer: int, natural: int, sab: bool, pays_more: bool) -> dict[float, float]:
    """Return the probabilities of the rewards of sticking."""
    found: dict[float, float] = defaultdict(float)
    for (score, dealers_natural), p in _dealer(*_add(0, 0, dealer), 1).items():
        reward = float(np.sign(total - score))
        if natural and sab and not dealers_natural:
            reward = 1.0
        elif natural and not sab and pays_more and reward == 1.0:
            reward = 1.5
        found[reward] += p
    return dict(found)


def _state(total: int, dealer: int, usable: int, natural: int) -> int:
    return int(np.ravel_multi_index((total, dealer, usable, natural), _SIZES))


def blackjack(
    max_episode_steps: int | None, *, sab: bool = True, natural: bool = False
) -> CompiledEnvironment:
    """Return blackjack: job id ``hpcq/Blackjack-v0``.

    `sab` and `natural` are Gymnasium's: by `sab` a natural wins unless the dealer has one, too;
    else by `natural` it pays 1.5 where it wins.
    """
    for name, value in (("sab", sab), ("natural", natural)):
        if not isinstance(value, bool):
            raise JobError(f"hpcq/Blackjack-v0: {name} = {value!r}, expected true or false")
    states = int(np.prod(_SIZES))
    over = [(1.0, 0, 0.0, True)]
    transitions = {state: {STICK: over, HIT: over} for state in range(states)}
    start = np.zeros(states)
    hands = [(total, 0, 0) for total in range(4, 22)]
    hands += [(total, 1, held) for total in range(12, 22) for held in (0, 1)[: 1 + total // 21]]
    for dealer in range(1, 11):
        for total, usable, held in hands:
            hits = []
            for card, p in _CARDS.items():
                after, ace = _add(total, usable, card)
                bust = after > 21
                hits.append((p, _state(after, dealer, ace, 0), -1.0 if bust else 0.0, bust))
            rewards = _stick(total, dealer, held, sab, natural)
            transitions[_state(total, dealer, usable, held)] = {
                STICK: [(p, 0, reward, True) for reward, p in rewards.items()],
                HIT: hits,
            }
        for first, p in _CARDS.items():
            for second, q in _CARDS.items():
                total, usable = _add(*_add(0, 0, first), second)
                dealt = _state(total, dealer, usable, int(total == 21))
                start[dealt] += p * q * _CARDS[dealer]
    observation = {
        "kind": "Tuple",
        "spaces": [{"kind": "Discrete", "n": size, "start": 0} for size in _SIZES],
    }
    return tabular.table_environment(
        "hpcq/Blackjack-v0",
        tabular.from_transitions(transitions, start),
        max_episode_steps,
        observation,
    )
