"""Look at an environment: its spaces, and what a random walk through it meets."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import format_error
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, HpcqError, JobError
from hpcq.job.sections import Discretise, EnvironmentSection, Levels
from hpcq.scaffold.rollout import STEPS, Compiled, Stepped, Walk, walk
from hpcq.spaces.codec import Codec
from hpcq.spaces.discretise import components
from hpcq.spaces.spaces import describe


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
    walk: Walk

    @property
    def states(self) -> int | None:
        """How many observations there can be; None: without number."""
        described = self.environment.observation
        return Codec(described).size if described["kind"] != "Digest" else None


# In this order: as it is, with a digest of the observation, and with levels for floats in actions;
# one environment at a time.
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
        return _look_compiled(section, environment)
    env = environment.make()
    try:
        spaces = (env.observation_space, env.action_space)
        description = describe(spaces[0])
        subject = Stepped(env, environment, description)
        found = _guarded(environment.id, lambda: walk(subject, environment.actions))
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
        found,
    )


def _look_compiled(section: EnvironmentSection, environment: CompiledEnvironment) -> Look:
    with contextlib.suppress(JobError):
        masked = resolve(section.model_copy(update={"action_mask": True}))
        assert isinstance(masked, CompiledEnvironment)
        environment = masked
    found = _guarded(environment.id, lambda: walk(Compiled(environment), environment.actions))
    size = f"{Codec(environment.observation).size:,} states"
    actions = f"{environment.actions} actions"
    return Look(section, environment, (size, actions), [], [], True, False, found)


def _resolve(section: EnvironmentSection) -> CompiledEnvironment | PythonEnvironment:
    first: JobError | None = None
    for way in _WAYS:
        try:
            return resolve(section.model_copy(update={"vector": None, **way}))
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
            f"{name} failed within {STEPS:,} random steps:\n{format_error(error)}"
        ) from error


def _short(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 160 else f"{text[:160]} ..."


def count_text(value: float) -> str:
    """Return a mean number of steps as people say it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
