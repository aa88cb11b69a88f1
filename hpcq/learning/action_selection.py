"""Choosing an action in a row: the best, a legal one, what the policy takes; as templates.

Up to 64 actions are bitsets. Of tables with masks what is not legal is left out; the others pay
nothing for that.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcq.hashing import MAX_HASH
from hpcq.jit.compiler import bind, inlined
from hpcq.jit.simd import WIDTH, at_least, nth, size_of
from hpcq.learning.policy import Policy
from hpcq.learning.rule import Rule, plain

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@inlined
def _pick(draw, candidates):
    """Return a number in 0 ... `candidates` - 1 from the lower half of a draw."""
    return np.int64(((draw & _LOW) * np.uint64(candidates)) >> _HALF)


@inlined
def _member(bitset, draw):
    """Return any number of a bitset."""
    # Of none, 0: no row that has overflowed may lead out of an array.
    return np.int64(nth(bitset, _pick(draw, size_of(bitset))) & np.uint64(WIDTH - 1))


@inlined
def _coin(draw):
    """Return 0 or 1: the lowest bit of a draw, which decides nothing about an action."""
    return draw & np.uint64(1)


@inlined
def _mask_of_none(query):
    return np.uint64(0)


@inlined
def _mask_of(query):
    # An empty mask, as the end of an episode may have, says nothing.
    return query.mask if query.mask != np.uint64(0) else MAX_HASH


@inlined
def _permits_all(mask, action):
    return True


@inlined
def _all_of(mask, actions):
    return actions


@inlined
def _permitted(mask, actions):
    return mask & actions


@inlined
def _permits(mask, action):
    return (mask >> np.uint64(action)) & np.uint64(1) != np.uint64(0)


def _any_of_all(mask, draw):
    return _pick(draw, ACTIONS)


def _any_permitted(mask, draw):
    return _member(mask & ALL, draw)


def _at_least_compared(q, slot, least):
    return at_least(q, slot, least, ACTIONS)


def _at_least_computed(q, slot, least):
    found = np.uint64(0)
    for a in range(ACTIONS):
        found |= np.uint64(acting(q, slot, a) >= least) << np.uint64(a)
    return found


def _one_of_few(q, slot, mask, best, explore, draw):
    # Without branches: whether a row has ties, and which, cannot be predicted.
    wanted = at_least(q, slot, best)
    wanted = permitted(mask, ALL if explore else wanted)
    return _member(wanted, draw)


def _one_of_many(q, slot, mask, best, explore, draw):
    # Where actions can be illegal there are few.
    count = 0
    for a in range(ACTIONS):
        count += explore | (acting(q, slot, a) >= best)
    skip, passed, chosen = _pick(draw, count), 0, 0
    for a in range(ACTIONS - 1):
        passed += explore | (acting(q, slot, a) >= best)
        chosen += passed <= skip
    return chosen


def _largest_of_all(q, slot, mask):
    best = acting(q, slot, 0)
    for a in range(1, ACTIONS):
        value = acting(q, slot, a)
        best = value if value > best else best
    return best


def _largest_permitted(q, slot, mask):
    best, found = acting(q, slot, 0), False
    for a in range(ACTIONS):
        value = acting(q, slot, a)
        better = permits(mask, a) & (not found or value > best)
        best = value if better else best
        found = found or better
    return best


def _tried(visits, slot, action):
    """Return how often an action was updated in the row `slot`, in all tables."""
    count = np.int64(0)
    for table in range(TABLES):
        count += np.int64(visits[slot, table * ACTIONS + action])
    return count


def names(rule: Rule, policy: Policy, actions: int, masked: bool) -> dict[str, Any]:
    """Return what the owner's kernels need to answer for `actions` actions, for `bind`.

    Parameters
    ----------
    masked
        whether queries carry the legal actions.
    """
    found: dict[str, Any] = {
        "ACTIONS": actions,
        "TABLES": rule.tables,
        "pick": _pick,
        "coin": _coin,
        "permits": _permits if masked else _permits_all,
        "permitted": _permitted if masked else _all_of,
        "mask_of": _mask_of if masked else _mask_of_none,
        "acting": bind(rule.acting, ACTIONS=actions),
    }
    few, compared = actions <= WIDTH, rule.acting is plain
    if few:
        # Not in a kernel: there, 1 << 64 is no number.
        found["ALL"] = np.uint64((1 << actions) - 1)
    # Each may use those before it.
    templates: tuple[tuple[str, Callable], ...] = (
        ("tried", _tried),
        ("largest", _largest_permitted if masked else _largest_of_all),
        ("anything", _any_permitted if masked else _any_of_all),
        *([("at_least", _at_least_compared if compared else _at_least_computed)] if few else []),
        ("one_of", _one_of_few if few else _one_of_many),
        *((helper.__name__, helper) for helper in policy.helpers),
        ("choose", policy.choose),
        ("expectation", policy.expectation),
        ("value", rule.value),
    )
    for name, function in templates:
        found[name] = bind(function, **found)
    return found
