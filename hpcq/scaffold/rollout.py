"""Step an environment with random actions, and note what can be learned of it that way."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment, ContinuousEnvironment
from hpcq.rng import environment_streams, seed_word
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import MOST_ACTIONS, legal_actions

STEPS = 5000
SECONDS = 5.0


@dataclass
class Rollout:
    """What random actions led to."""

    steps: int = 0
    seconds: float = 0.0
    states: set[int] = field(default_factory=set)
    """one number for each observation"""
    lengths: list[int] = field(default_factory=list)
    """of finished episodes"""
    terminated: int = 0
    """how many of them terminated"""
    time_limit: int = 0
    """length of the longest truncated episode: the environment's own time limit; 0: none was"""
    rewards: set[float] = field(default_factory=set)
    floats: list[list[float]] = field(default_factory=list)
    """the observation's floats at each step"""
    repeats: int = 0
    """steps whose (observation, action) had occurred before"""
    differing_repeats: int = 0
    """those of them with another next observation, or another reward"""
    masked: bool = True
    """whether every observation came with a mask of legal actions"""
    has_illegal_actions: bool = False


class Observation(NamedTuple):
    """A number for it, its floats, and the legal actions, bool (A,), or None without a mask."""

    state: int
    floats: list[float]
    legal: np.ndarray | None


class Stepper(Protocol):
    """An environment that is stepped by action numbers."""

    def reset(self, episode: int) -> Observation:
        """Begin an episode."""

    def step(self, action: int) -> tuple[Observation, float, bool, bool]:
        """Take an action; return observation, reward, terminated, truncated."""


class GymnasiumStepper:
    """A Gymnasium environment; the number of an observation is its digest."""

    def __init__(self, env: Any, environment: PythonEnvironment, description: dict[str, Any]):
        self._env, self._actions = env, environment.action_set
        self._description = description
        self._digests = Codec({"kind": "Digest", "space": description})

    def reset(self, episode: int) -> Observation:
        """Begin an episode."""
        observation, info = self._env.reset(seed=episode)
        return self._observe(observation, info, False)

    def step(self, action: int) -> tuple[Observation, float, bool, bool]:
        """Take an action; return observation, reward, terminated, truncated."""
        observation, reward, terminated, truncated, info = self._env.step(self._actions.one(action))
        observed = self._observe(observation, info, terminated or truncated)
        return observed, float(reward), bool(terminated), bool(truncated)

    def _observe(self, observation: Any, info: Any, over: bool) -> Observation:
        legal = None
        few = self._actions.count <= MOST_ACTIONS
        if few and isinstance(info, dict) and "action_mask" in info:
            mask = np.asarray(info["action_mask"])
            fits = mask.shape == (self._actions.count,) and mask.dtype.kind in "biu"
            legal = mask != 0 if fits and (over or mask.any()) else None
        floats = list(floats_of(self._description, observation))
        return Observation(self._digests.encode(observation), floats, legal)


class CompiledStepper:
    """A compiled environment; the number of an observation is its key."""

    def __init__(self, environment: CompiledEnvironment):
        self._environment = environment
        self._draws = iter(environment_streams(seed_word(0), 0, 2 * STEPS + 3))
        self._key, self._elapsed = np.uint64(0), 0
        if isinstance(environment, ContinuousEnvironment):
            self._state = np.zeros(environment.numbers)
        # Compile the functions now: it must not count as time of the rollout.
        self.reset(0)
        self.step(0)

    def reset(self, episode: int) -> Observation:
        """Begin an episode."""
        environment, draw = self._environment, next(self._draws)
        self._elapsed = 0
        if isinstance(environment, ContinuousEnvironment):
            environment.reset(environment.model, self._state, draw)
            return self._observe(environment.observe(environment.model, self._state))
        return self._observe(environment.reset(environment.model, draw))

    def step(self, action: int) -> tuple[Observation, float, bool, bool]:
        """Take an action; return observation, reward, terminated, truncated."""
        environment, draw = self._environment, next(self._draws)
        model, action_number = environment.model, np.int64(action)
        if isinstance(environment, ContinuousEnvironment):
            reward, terminated = environment.step(model, self._state, action_number, draw)
            key = environment.observe(model, self._state)
        else:
            key, reward, terminated = environment.step(model, self._key, action_number, draw)
        self._elapsed += 1
        truncated = self._elapsed == environment.max_episode_steps
        return self._observe(key), float(reward), bool(terminated), truncated

    def _observe(self, key: int) -> Observation:
        # Kernels return Python's integers; a uint64 must go in as one.
        self._key, environment, legal = np.uint64(key), self._environment, None
        if environment.masked:
            legal = legal_actions(environment.mask(key), environment.actions)[0]
        return Observation(int(key), [], legal)


def roll_out(stepper: Stepper, actions: int) -> Rollout:
    """Step with random actions, legal ones where there are masks, `STEPS` times or `SECONDS`."""
    rng = np.random.default_rng(0)
    rollout = Rollout()
    outcomes: dict[tuple[int, int], tuple[int, float]] = {}
    started = time.perf_counter()
    episode = length = 0
    while rollout.steps < STEPS and rollout.seconds < SECONDS:
        if length == 0:
            observed = stepper.reset(episode)
            _note(rollout, observed)
        legal = np.arange(actions) if observed.legal is None else np.flatnonzero(observed.legal)
        action = int(legal[rng.integers(legal.size)])
        taken = observed.state, action
        observed, reward, terminated, truncated = stepper.step(action)
        _note(rollout, observed)
        outcome = (observed.state, reward)
        first = outcomes.setdefault(taken, outcome)
        rollout.repeats += first is not outcome
        rollout.differing_repeats += first != outcome
        rollout.rewards.add(reward)
        rollout.steps += 1
        length += 1
        if terminated or truncated:
            rollout.lengths.append(length)
            rollout.terminated += terminated
            rollout.time_limit = max(rollout.time_limit, 0 if terminated else length)
            episode, length = episode + 1, 0
        rollout.seconds = time.perf_counter() - started
    return rollout


def _note(rollout: Rollout, observed: Observation) -> None:
    legal = observed.legal
    rollout.states.add(observed.state)
    rollout.floats.append(observed.floats)
    rollout.masked &= legal is not None
    rollout.has_illegal_actions |= legal is not None and bool(legal.any() and not legal.all())


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
