"""The protocol of environments that run inside hpcq's kernels.

Two functions, compiled with `kernel`:

    reset(model, draw)             -> key
    step(model, key, action, draw) -> (key, reward, terminated)

`key` (uint64) is the state, and its key in the table. `action` is an int64 from 0 on. `draw` is a
uint64, the only source of randomness of a call (`unit_interval` makes a float64 of it,
`second_draw` another draw). `model` is a NamedTuple of arrays and numbers, the parameters of the
environment; as they are arguments, other parameters need no other compilation. hpcq applies time
limits, not the environment.

A continuous environment has a state of `numbers` float64, the array `state`, and is observed
through a key:

    reset(model, state, draw)                        fills `state`
    step(model, state, action, draw) -> (reward, terminated)
    observe(model, state)            -> key

In a file of your own, `compiled_environment` puts the two functions together; envs/README.md has an
example.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcq.errors import JobError
from hpcq.hashing import MAX_HASH
from hpcq.jit.compiler import kernel
from hpcq.rng import second_draw, unit_interval
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import Codec, describe

__all__ = [
    "CompiledEnvironment",
    "ContinuousEnvironment",
    "compiled_environment",
    "kernel",
    "second_draw",
    "unit_interval",
]


# For all environments: sums of such rewards stay finite, in float32, too.
MAX_REWARD = 1e30


@dataclass(frozen=True)
class CompiledEnvironment:
    """A compiled environment and what the rest of hpcq needs to know of it."""

    id: str
    observation: dict[str, Any]
    """the observation space, as `codec.describe` gives it"""
    actions: int
    action: dict[str, Any]
    """what their numbers stand for, see `Actions.described`"""
    model: Any
    reset: Any
    step: Any
    max_episode_steps: int | None
    """an episode is truncated after so many steps; None: never"""
    self_play: bool | None = field(default=None, kw_only=True)
    """whether every observation is that of the player to move; None: unknown"""
    legal: Any = field(default=None, kw_only=True)
    """kernel: legal(model, key) -> uint64 bitset of the legal actions; None: all are"""

    @property
    def masked(self) -> bool:
        """Whether it says which actions are legal."""
        return self.legal is not None


@dataclass(frozen=True)
class ContinuousEnvironment(CompiledEnvironment):
    """A compiled environment with a continuous state."""

    observe: Any
    numbers: int
    """how many float64 a state is"""


@kernel
def all_legal(model: Any, key: np.uint64) -> np.uint64:
    """Return the bitset of all actions: `legal` of an environment without masks."""
    return MAX_HASH


def compiled_environment(
    reset: Any,
    step: Any,
    *,
    observation: Any,
    actions: Any,
    model: Any = (),
    max_episode_steps: int | None = None,
    legal: Any = None,
    self_play: bool | None = None,
) -> CompiledEnvironment:
    """Return an environment of your own, to be named in a job file as ``file.py:name``.

    Parameters
    ----------
    reset, step
        the two functions of the protocol, decorated with `kernel`.
    observation
        how many states there are, or a Gymnasium space: a state's key is then the mixed-radix
        number of its digits, most significant first.
    actions
        how many actions there are, or a Discrete space.
    model
        passed to both functions as their first argument.
    max_episode_steps
        an episode is truncated after so many steps; the job file can say otherwise.
    legal
        kernel legal(model, key) -> uint64, the bitset of the legal actions, for jobs with
        ``environment.action_mask = true``.
    self_play
        whether two players take turns, each observation being that of the player to move; the
        job's rule must fit then.

    Raises
    ------
    JobError
        for spaces without a number for every state and action.
    """
    from gymnasium import spaces

    if isinstance(observation, int):
        observation = {"kind": "Discrete", "n": observation, "start": 0}
        Codec(observation)
    else:
        observation = describe(observation)
    action_set = Actions(spaces.Discrete(actions) if isinstance(actions, int) else actions)
    return CompiledEnvironment(
        "",
        observation,
        action_set.count,
        action_set.description,
        model,
        reset,
        step,
        max_episode_steps,
        legal=legal,
        self_play=self_play,
    )


def integer(id_: str, name: str, value: Any, least: int, most: int) -> int:
    """Return `value` where it is an integer in `least` ... `most`.

    Raises
    ------
    JobError
        naming the environment and its argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise JobError(f"{id_}: {name} = {value!r}, expected an integer in {least} ... {most}")
    return value


def number(id_: str, name: str, value: Any, least: float, most: float) -> float:
    """Return `value` where it is a number in `least` ... `most`, as a float.

    Raises
    ------
    JobError
        naming the environment and its argument.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise JobError(f"{id_}: {name} = {value!r}, expected a number in {least:g} ... {most:g}")
    return float(value)


def choice(id_: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` where it is one of `choices`.

    Raises
    ------
    JobError
        naming the environment and its argument.
    """
    if value not in choices:
        raise JobError(f"{id_}: {name} = {value!r}, expected one of {', '.join(choices)}")
    return str(value)
