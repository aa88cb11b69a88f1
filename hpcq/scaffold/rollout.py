"""A random walk through an environment: what an agent that knows nothing meets."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment, ContinuousEnvironment
from hpcq.rng import environment_streams, seed_word
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import BITS, legal_actions

STEPS = 5000
SECONDS = 5.0


@dataclass
class Walk:
    """What random actions met."""

    steps: int = 0
    seconds: float = 0.0
    states: set[int] = field(default_factory=set)
    """one number for each observation"""
    lengths: list[int] = field(default_factory=list)
    """of episodes that ended"""
    cut: int = 0
    """length of the longest one that was truncated: a time limit of the environment's own"""
    rewards: set[float] = field(default_factory=set)
    floats: list[list[float]] = field(default_factory=list)
    """the observation's floats at each step"""
    repeats: int = 0
    """steps whose observation and action had been met before"""
    surprises: int = 0
    """those of them that ended elsewhere than before, or with another reward"""
    masked: bool = True
    """whether every observation came with the actions that are legal"""
    forbidding: bool = False
    """whether some were not"""


class SlotHints(NamedTuple):
    """An observation: its number, its floats, and which actions are legal, (A,), if it says so."""

    state: int
    floats: list[float]
    legal: np.ndarray | None


class Subject(Protocol):
    """What can be walked through."""

    def reset(self, episode: int) -> SlotHints:
        """Begin an episode."""

    def step(self, number: int) -> tuple[SlotHints, float, bool, bool]:
        """Take an action; return what is seen, reward, terminated, truncated."""


class Stepped:
    """A Gymnasium environment; an observation's number is a digest of it."""

    def __init__(self, env: Any, environment: PythonEnvironment, description: dict[str, Any]):
        self._env, self._actions = env, environment.action_set
        self._description = description
        self._digests = Codec({"kind": "Digest", "space": description})

    def reset(self, episode: int) -> SlotHints:
        """Begin an episode."""
        observation, info = self._env.reset(seed=episode)
        return self._seen(observation, info, False)

    def step(self, number: int) -> tuple[SlotHints, float, bool, bool]:
        """Take an action; return what is seen, reward, terminated, truncated."""
        observation, reward, terminated, truncated, info = self._env.step(self._actions.one(number))
        seen = self._seen(observation, info, terminated or truncated)
        return seen, float(reward), bool(terminated), bool(truncated)

    def _seen(self, observation: Any, info: Any, over: bool) -> SlotHints:
        legal = None
        if isinstance(info, dict) and "action_mask" in info and self._actions.count <= BITS:
            mask = np.asarray(info["action_mask"])
            fits = mask.shape == (self._actions.count,) and mask.dtype.kind in "biu"
            legal = mask != 0 if fits and (over or mask.any()) else None
        floats = list(floats_of(self._description, observation))
        return SlotHints(self._digests.encode(observation), floats, legal)


class Compiled:
    """A compiled environment; an observation's number is its key."""

    def __init__(self, environment: CompiledEnvironment):
        self._environment = environment
        self._draws = iter(environment_streams(seed_word(0), 0, 2 * STEPS + 3))
        self._key, self._elapsed = np.uint64(0), 0
        if isinstance(environment, ContinuousEnvironment):
            self._state = np.zeros(environment.numbers)
        # Compiles the functions, which is not to count as time of the walk.
        self.reset(0)
        self.step(0)

    def reset(self, episode: int) -> SlotHints:
        """Begin an episode."""
        environment, draw = self._environment, next(self._draws)
        self._elapsed = 0
        if isinstance(environment, ContinuousEnvironment):
            environment.reset(environment.model, self._state, draw)
            return self._seen(environment.observe(environment.model, self._state))
        return self._seen(environment.reset(environment.model, draw))

    def step(self, number: int) -> tuple[SlotHints, float, bool, bool]:
        """Take an action; return what is seen, reward, terminated, truncated."""
        environment, draw = self._environment, next(self._draws)
        model, action = environment.model, np.int64(number)
        if isinstance(environment, ContinuousEnvironment):
            reward, terminated = environment.step(model, self._state, action, draw)
            key = environment.observe(model, self._state)
        else:
            key, reward, terminated = environment.step(model, self._key, action, draw)
        self._elapsed += 1
        truncated = self._elapsed == environment.max_episode_steps
        return self._seen(key), float(reward), bool(terminated), truncated

    def _seen(self, key: int) -> SlotHints:
        # Kernels return Python's integers; a uint64 must go in as one.
        self._key, environment, legal = np.uint64(key), self._environment, None
        if environment.masked:
            bits = np.array([environment.legal(environment.model, self._key)], np.uint64)
            legal = legal_actions(bits, environment.actions)[0]
        return SlotHints(int(key), [], legal)


def walk(subject: Subject, actions: int) -> Walk:
    """Walk at random, by legal actions only where they are told."""
    choose = np.random.default_rng(0)
    found = Walk()
    met: dict[tuple[int, int], tuple[int, float]] = {}
    started = time.perf_counter()
    episode = length = 0
    while found.steps < STEPS and found.seconds < SECONDS:
        if length == 0:
            seen = subject.reset(episode)
            _note(found, seen)
        legal = np.arange(actions) if seen.legal is None else np.flatnonzero(seen.legal)
        number = int(legal[choose.integers(legal.size)])
        before = seen.state, number
        seen, reward, terminated, truncated = subject.step(number)
        _note(found, seen)
        there = (seen.state, reward)
        known = met.setdefault(before, there)
        found.repeats += known is not there
        found.surprises += known != there
        found.rewards.add(reward)
        found.steps += 1
        length += 1
        if terminated or truncated:
            found.lengths.append(length)
            found.cut = max(found.cut, 0 if terminated else length)
            episode, length = episode + 1, 0
        found.seconds = time.perf_counter() - started
    return found


def _note(found: Walk, seen: SlotHints) -> None:
    found.states.add(seen.state)
    found.floats.append(seen.floats)
    found.masked &= seen.legal is not None
    found.forbidding |= seen.legal is not None and bool(seen.legal.any() and not seen.legal.all())


def floats_of(description: dict[str, Any], observation: Any) -> Iterator[float]:
    """Yield the floats of an observation in the order of `components`."""
    kind = description["kind"]
    if kind == "Box" and "shape" in description:
        yield from np.asarray(observation, np.float64).ravel().tolist()
    elif kind == "Tuple":
        for part, inner in zip(description["spaces"], observation, strict=True):
            yield from floats_of(part, inner)
    elif kind == "Dict":
        for name, part in description["spaces"].items():
            yield from floats_of(part, observation[name])
