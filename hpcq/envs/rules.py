"""What can happen in an environment: its outcomes as rules, for the solver.

An environment that only draws what happens can be learned on; one that also says what can happen
can be explored and solved. Two kernels say it:

    outcome(model, key, action, k) -> (probability, key, reward, terminated)
    start(model, i)                -> (probability, key)

`outcome` gives outcome k of 0 ... `outcomes` - 1 of an action in a state; their probabilities add
up to 1, and an outcome of probability 0 does not happen. `start` gives start state i of
0 ... `starts` - 1; one of probability 0 is none. `model` is the environment's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.rng import unit_interval


@dataclass(frozen=True)
class Rules:
    """The outcomes of an environment's actions, and where its episodes start."""

    outcome: Any
    outcomes: int
    """most outcomes of an action"""
    start: Any
    starts: int


def deterministic(step: Any) -> Any:
    """Return `outcome` of an environment whose `step` does not use its draw."""

    @inlined
    def outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
        following, reward, terminated = step(model, key, action, np.uint64(0))
        return 1.0, following, reward, terminated

    return outcome


def always(reset: Any) -> Any:
    """Return `start` of an environment whose `reset` does not use its draw."""

    @inlined
    def start(model: Any, i: int) -> Any:
        return 1.0, reset(model, np.uint64(0))

    return start


def draws(outcome: Any, outcomes: int) -> Any:
    """Return the kernel `step` that draws from the outcomes."""

    @inlined
    def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
        left = unit_interval(draw)
        found = outcome(model, key, action, 0)
        for k in range(outcomes):
            one = outcome(model, key, action, k)
            # A draw beyond the sum, by rounding, takes the last outcome that happens.
            if one[0] > 0.0:
                found = one
                if left < one[0]:
                    break
            left -= one[0]
        return found[1], found[2], found[3]

    return step


def draws_start(start: Any, starts: int) -> Any:
    """Return the kernel `reset` that draws from the start states."""

    @inlined
    def reset(model: Any, draw: np.uint64) -> Any:
        left = unit_interval(draw)
        found = start(model, 0)[1]
        for i in range(starts):
            probability, key = start(model, i)
            if probability > 0.0:
                found = key
                if left < probability:
                    break
            left -= probability
        return found

    return reset
