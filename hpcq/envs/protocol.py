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

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.envs import rules as what_happens
from hpcq.envs.rules import Rules
from hpcq.errors import JobError
from hpcq.hashing import MAX_HASH
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import second_draw, unit_interval
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import Codec, describe
from hpcq.spaces.mask_kernels import permit
from hpcq.spaces.masks import shape_of, words_of

__all__ = [
    "CompiledEnvironment",
    "ContinuousEnvironment",
    "compiled_environment",
    "kernel",
    "permit",
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
    """kernel: legal(model, key) -> uint64 bitset of the legal actions; of more than 64 actions
    legal(model, key, mask), which sets their bits (`permit`) in uint64 (words,); None: all are"""
    rules: Rules | None = field(default=None, kw_only=True)
    """what can happen, for `hpcq solve`; None: unknown"""

    @property
    def masked(self) -> bool:
        """Whether it says which actions are legal."""
        return self.legal is not None

    def mask(self, key: int) -> NDArray[np.uint64]:
        """Return the legal actions of a state as an array of one mask, see `spaces.masks`."""
        masks = np.zeros((1, *shape_of(words_of(self.actions))), np.uint64)
        if masks.ndim > 1:
            self.legal(self.model, np.uint64(key), masks[0])
        else:
            masks[0] = self.legal(self.model, np.uint64(key))
        return masks


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


@kernel
def _all_of_many_legal(model: Any, key: np.uint64, mask: NDArray[np.uint64]) -> None:
    for word in range(mask.size):
        mask[word] = MAX_HASH


def all_legal_of(actions: int) -> Any:
    """Return `legal` of an environment in which all of so many actions are legal."""
    return _all_of_many_legal if words_of(actions) > 1 else all_legal


@functools.cache
def make_ask_legal(legal: Any, words: int) -> Any:
    """Return the kernel that asks which actions are legal: ``ask(model, key, masks, at)``.

    It writes the mask of a state, of `words` words, into an array of masks; of 0 words, nothing.
    """
    legal = legal or all_legal

    @inlined
    def nothing(model: Any, key: np.uint64, masks: Any, at: Any) -> None:
        pass

    @inlined
    def ask(model: Any, key: np.uint64, masks: Any, at: Any) -> None:
        masks[at] = legal(model, key)

    @inlined
    def ask_several(model: Any, key: np.uint64, masks: Any, at: Any) -> None:
        mask = masks[at]
        for word in range(words):
            mask[word] = 0
        legal(model, key, mask)

    return ask_several if words > 1 else ask if words else nothing


def compiled_environment(
    reset: Any = None,
    step: Any = None,
    *,
    observation: Any,
    actions: Any,
    outcome: Any = None,
    outcomes: int = 1,
    start: Any = None,
    starts: int = 1,
    deterministic: bool = False,
    model: Any = (),
    max_episode_steps: int | None = None,
    legal: Any = None,
    self_play: bool | None = None,
) -> CompiledEnvironment:
    """Return an environment of your own, to be named in a job file as ``file.py:name``.

    Parameters
    ----------
    reset, step
        the two functions of the protocol, decorated with `kernel`; may be left out where `start`
        and `outcome` are given: then they draw from these.
    observation
        how many states there are, or a Gymnasium space: a state's key is then the mixed-radix
        number of its digits, most significant first.
    actions
        how many actions there are, or a Discrete space.
    outcome, outcomes, start, starts
        what can happen, for `hpcq solve`: the two kernels of `rules`, how many outcomes an action
        has at most, and how many start states there are.
    deterministic
        instead of `outcome`: `step` does not use its draw. Without `start`, nor does `reset`.
    model
        passed to all functions as their first argument.
    max_episode_steps
        an episode is truncated after so many steps; the job file can say otherwise.
    legal
        kernel legal(model, key) -> uint64, the bitset of the legal actions, for jobs with
        ``environment.action_mask = true``. Of more than 64 actions, up to 1,024, it is
        legal(model, key, mask), which calls ``permit(mask, action)`` for each that is legal.
    self_play
        whether two players take turns, each observation being that of the player to move; the
        job's rule must fit then.

    Raises
    ------
    JobError
        for spaces without a number for every state and action, or for another kind of `legal`.
    """
    from gymnasium import spaces

    if isinstance(observation, int):
        observation = {"kind": "Discrete", "n": observation, "start": 0}
        Codec(observation)
    else:
        observation = describe(observation)
    rules = _rules(reset, step, outcome, outcomes, start, starts, deterministic)
    if rules is not None:
        reset = reset or what_happens.draws_start(rules.start, starts)
        step = step or what_happens.draws(rules.outcome, outcomes)
    if reset is None or step is None:
        raise JobError("an environment needs reset and step, or start and outcome")
    action_set = Actions(spaces.Discrete(actions) if isinstance(actions, int) else actions)
    if legal is not None:
        _check_legal(legal, action_set.count)
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
        rules=rules,
    )


def _check_legal(legal: Any, actions: int) -> None:
    function = getattr(legal, "py_func", legal)
    expected = "model, key, mask" if words_of(actions) > 1 else "model, key"
    if function.__code__.co_argcount != len(expected.split(", ")):
        raise JobError(
            f"{function.__name__} is given as `legal` of an environment with {actions:,} actions: "
            f"expected {function.__name__}({expected}); see Masks in the README of hpcq/envs"
        )


def _rules(
    reset: Any,
    step: Any,
    outcome: Any,
    outcomes: int,
    start: Any,
    starts: int,
    is_deterministic: bool,
) -> Rules | None:
    if outcome is not None and is_deterministic:
        raise JobError("deterministic = True makes the outcome of step: leave `outcome` out")
    if is_deterministic:
        if step is None:
            raise JobError("deterministic = True needs step")
        outcome, outcomes = what_happens.deterministic(step), 1
        start = start or (what_happens.always(reset) if reset else None)
    if (outcome is None) != (start is None):
        raise JobError("`outcome` and `start` go together: give both, or none")
    return None if outcome is None else Rules(outcome, outcomes, start, starts)


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
