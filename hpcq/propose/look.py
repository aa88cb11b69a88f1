"""Look at an environment: its spaces, and what a random walk through it meets."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcq.envs import CompiledEnvironment, PythonEnvironment, resolve
from hpcq.envs.load import told
from hpcq.errors import EnvironmentFault, HpcqError, JobError
from hpcq.job.sections import Discretise, EnvironmentSection, Levels
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import Codec
from hpcq.spaces.discretise import components
from hpcq.spaces.spaces import describe

STEPS = 5000
SECONDS = 5.0


@dataclass
class Walk:
    """What random actions met."""

    steps: int = 0
    seconds: float = 0.0
    states: set[int] = field(default_factory=set)
    """digests of the observations"""
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


@dataclass(frozen=True)
class Look:
    """An environment as `hpcq init` sees it."""

    section: EnvironmentSection
    environment: CompiledEnvironment | PythonEnvironment
    """with the digest codec and any levels of actions where it needs some"""
    spaces: tuple[str, str]
    """observations and actions, as text"""
    floats: list[tuple[str, float | None, float | None]]
    """name, low and high of every float in an observation; None: no bound"""
    action_floats: list[tuple[str, float | None, float | None]]
    exact: bool
    """whether every observation can have a key of its own, floats aside"""
    vector: bool
    """whether Gymnasium knows a VectorEnv of it"""
    walk: Walk | None
    """None for compiled environments"""

    @property
    def states(self) -> int | None:
        """How many observations there can be; None: without number."""
        described = self.environment.observation
        return Codec(described).size if described["kind"] != "Digest" else None


# In this order: as it is, with a digest of the observation, and with levels for floats in actions.
_ANY = Levels(levels=[3], low=[-1.0], high=[1.0])
_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"discretise_actions": _ANY},
    {"codec": "digest", "discretise": None},
    {"codec": "digest", "discretise": None, "discretise_actions": _ANY},
)


def look(section: EnvironmentSection) -> Look:
    """Make the environment, and walk through it at random.

    Raises
    ------
    JobError
        if it is unknown, or has spaces of which hpcq can make nothing.
    EnvironmentFault
        if the user's code raises.
    """
    environment = _resolve(section)
    if isinstance(environment, CompiledEnvironment):
        size = f"{Codec(environment.observation).size:,} states"
        actions = f"{environment.actions} actions"
        return Look(section, environment, (size, actions), [], [], True, False, None)
    env = environment.make()
    try:
        spaces = (env.observation_space, env.action_space)
        description = describe(spaces[0])
        walk = _guarded(environment.id, lambda: _walk(env, environment, description))
    finally:
        with contextlib.suppress(Exception):
            env.close()
    spec = getattr(env, "spec", None)
    return Look(
        section,
        environment,
        (_short(spaces[0]), _short(spaces[1])),
        components(description),
        components(describe(spaces[1])),
        _is_exact(section),
        bool(spec and spec.vector_entry_point),
        walk,
    )


def _resolve(section: EnvironmentSection) -> CompiledEnvironment | PythonEnvironment:
    first: JobError | None = None
    for way in _WAYS:
        try:
            return resolve(section.model_copy(update=way))
        except JobError as error:
            first = first or error
    assert first is not None
    raise first


def _is_exact(section: EnvironmentSection) -> bool:
    """Return whether one bin for each float leaves few enough observations."""
    one = Discretise(bins=[1], low=[0.0], high=[1.0])
    for way in ({}, {"discretise": one}):
        for levels in ({}, {"discretise_actions": _ANY}):
            with contextlib.suppress(JobError):
                resolve(section.model_copy(update={**way, **levels}))
                return True
    return False


def _guarded(name: str, function: Callable[[], Walk]) -> Walk:
    try:
        return function()
    except HpcqError:
        raise
    except Exception as error:
        raise EnvironmentFault(
            f"{name} failed within {STEPS:,} random steps:\n{told(error)}"
        ) from error


def _walk(env: Any, environment: PythonEnvironment, description: dict[str, Any]) -> Walk:
    digests = Codec({"kind": "Digest", "space": description})
    choose = np.random.default_rng(0)
    actions: Actions = environment.action_set
    walk = Walk()
    met: dict[tuple[int, int], tuple[int, float]] = {}
    started = time.perf_counter()
    episode, length, state = 0, 0, -1
    while walk.steps < STEPS and walk.seconds < SECONDS:
        if length == 0:
            observation, _ = env.reset(seed=episode)
            state = digests.encode(observation)
            walk.floats.append(list(_floats(description, observation)))
            walk.states.add(state)
        number = int(choose.integers(actions.count))
        observation, reward, terminated, truncated, _ = env.step(actions.one(number))
        there = (digests.encode(observation), float(reward))
        before = met.setdefault((state, number), there)
        walk.repeats += before is not there
        walk.surprises += before != there
        state = there[0]
        walk.states.add(state)
        walk.rewards.add(float(reward))
        walk.floats.append(list(_floats(description, observation)))
        walk.steps += 1
        length += 1
        if terminated or truncated:
            walk.lengths.append(length)
            walk.cut = max(walk.cut, 0 if terminated else length)
            episode, length = episode + 1, 0
        walk.seconds = time.perf_counter() - started
    return walk


def _floats(description: dict[str, Any], observation: Any) -> Iterator[float]:
    """Yield the floats of an observation in the order of `components`."""
    kind = description["kind"]
    if kind == "Box" and "shape" in description:
        yield from np.asarray(observation, np.float64).ravel().tolist()
    elif kind == "Tuple":
        for part, inner in zip(description["spaces"], observation, strict=True):
            yield from _floats(part, inner)
    elif kind == "Dict":
        for name, part in description["spaces"].items():
            yield from _floats(part, observation[name])


def _short(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 160 else f"{text[:160]} ..."


def count_text(value: float) -> str:
    """Return a mean number of steps as people say it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
