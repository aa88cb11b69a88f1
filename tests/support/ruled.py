"""Environments that say what can happen, rightly or wrongly."""

import numpy as np

from hpcq import compiled_environment
from hpcq.jit.compiler import kernel


@kernel
def begin(model, i):
    return 0.25, np.uint64(i)


@kernel
def ring(model, key, action, k):
    """On a ring of 12: go on with probability 2/3, else back; action 1 may also leave, for 5."""
    if action == 1 and k == 2:
        return 0.125, np.uint64(0), 5.0, True
    share = 0.875 if action == 1 else 1.0
    if k == 0:
        return share * 2 / 3, (key + np.uint64(1)) % np.uint64(12), -1.0, False
    if k == 1:
        return share / 3, (key + np.uint64(11)) % np.uint64(12), -2.0, False
    return 0.0, np.uint64(0), 0.0, False


RING = compiled_environment(
    observation=12, actions=2, outcome=ring, outcomes=3, start=begin, starts=4
)


def wrong(what):
    """Return a deviation from RING in state 7."""

    @kernel
    def outcome(model, key, action, k):
        probability, following, reward, terminated = ring(model, key, action, k)
        if key == np.uint64(7) and action == 1 and k == 1:
            if what == 0:
                probability *= 0.5
            elif what == 1:
                probability = -probability
            elif what == 2:
                following = np.uint64(12)
            elif what == 3:
                reward = np.inf
        return probability, following, reward, terminated

    return compiled_environment(
        observation=12, actions=2, outcome=outcome, outcomes=3, start=begin, starts=4
    )


SUM, NEGATIVE, OUTSIDE, INFINITE = map(wrong, range(4))


@kernel
def trap(model, key, action, draw):
    """A line: action 1 goes on, and from 4 out; action 0 falls into 5, for ever."""
    if key == np.uint64(5) or action == 0:
        return np.uint64(5), -1.0, False
    return key + np.uint64(1), -1.0, key == np.uint64(4)


@kernel
def first(model, draw):
    return np.uint64(0)


TRAP = compiled_environment(first, trap, observation=7, actions=2, deterministic=True)


@kernel
def endless(model, key, action, draw):
    """Action 0 earns for ever; action 1 ends."""
    return np.uint64(0), 1.0, action == 1


ENDLESS = compiled_environment(first, endless, observation=1, actions=2, deterministic=True)


@kernel
def nothing_legal(model, key):
    return np.uint64(0) if key == np.uint64(3) else np.uint64(3)


STUCK = compiled_environment(
    first, trap, observation=7, actions=2, deterministic=True, legal=nothing_legal
)


@kernel
def chain(model, key, action, k):
    """60 states: action 1 goes on where the dice allow it, action 0 back; the end pays 1."""
    if k == 1:
        return 0.5, key, 0.0, False
    if action == 0:
        return 0.5, key - np.uint64(key > 0), 0.0, False
    last = key == np.uint64(59)
    return 0.5, np.uint64(0) if last else key + np.uint64(1), 1.0 if last else 0.0, False


@kernel
def leftmost(model, i):
    return 1.0, np.uint64(0)


CHAIN = compiled_environment(observation=60, actions=2, outcome=chain, outcomes=2, start=leftmost)


@kernel
def circle(model, key, action, draw):
    """12 states: action 0 goes around, and earns 1 once a round; action 1 stays, for less."""
    if action == 1:
        return key, 0.05, False
    return (key + np.uint64(1)) % np.uint64(12), np.float64(key == np.uint64(11)), False


CIRCLE = compiled_environment(first, circle, observation=12, actions=2, deterministic=True)


@kernel
def apart(model, key, action, draw):
    """Two states that stay what they are: one earns 1 in a step, the other 2."""
    return key, np.float64(key) + 1.0, False


@kernel
def either(model, draw):
    return draw & np.uint64(1)


@kernel
def each(model, i):
    return 0.5, np.uint64(i)


APART = compiled_environment(
    either, apart, observation=2, actions=1, deterministic=True, start=each, starts=2
)


@kernel
def balanced(model, key, action, draw):
    """Two states by turns: what one earns the other pays."""
    return key ^ np.uint64(1), 1.0 - 2.0 * np.float64(key), False


BALANCED = compiled_environment(
    either, balanced, observation=2, actions=1, deterministic=True, start=each, starts=2
)
