"""Profile an environment: its spaces, and a rollout of random actions."""

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcq.envs.guest import attempt, close, format_error
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, HpcqError, JobError, UnseededFault
from hpcq.job.environment_section import Discretise, EnvironmentSection, Levels
from hpcq.rng import seed_word
from hpcq.run.preflight import try_out
from hpcq.scaffold.rollout import STEPS, CompiledStepper, GymnasiumStepper, Rollout, roll_out
from hpcq.spaces.codec import Codec
from hpcq.spaces.discretise import components
from hpcq.spaces.masks import MOST_ACTIONS
from hpcq.spaces.spaces import describe

# Outcomes that are looked at: a second's worth.
MOST_OUTCOMES = 1_000_000


@dataclass(frozen=True)
class EnvironmentProfile:
    """What `hpcq init` knows of an environment."""

    section: EnvironmentSection
    environment: CompiledEnvironment | PythonEnvironment
    """with the digest codec, and with levels of actions, where it needs them"""
    spaces: tuple[str, str]
    """observations and actions, as text"""
    floats: list[tuple[str, float | None, float | None]]
    """name, low and high of every float in an observation; None: no bound"""
    action_floats: list[tuple[str, float | None, float | None]]
    exact: bool
    """whether every observation can have a key of its own, floats aside"""
    vector: bool
    """whether Gymnasium has a VectorEnv of it"""
    rollout: Rollout
    seeding: dict[str, bool] = field(default_factory=dict)
    """what it needs since its seed does not decide its first observation"""

    @property
    def never_terminates(self) -> bool:
        """Whether that is known: the environment says what can happen, in not too many states."""
        environment = self.environment
        if not isinstance(environment, CompiledEnvironment) or environment.rules is None:
            return False
        rules, states = environment.rules, Codec(environment.observation).size
        sizes = states, environment.actions, rules.outcomes
        if math.prod(sizes) > MOST_OUTCOMES:
            return False
        for state, action, k in np.ndindex(*sizes):
            found = rules.outcome(environment.model, np.uint64(state), action, k)
            if found[0] > 0 and found[3]:
                return False
        return True

    @property
    def states(self) -> int | None:
        """Number of possible observations; None: unbounded."""
        described = self.environment.observation
        return Codec(described).size if described["kind"] != "Digest" else None


# What to try, in this order: the environment as it is, a digest of the observation, levels for
# floats in actions, both.
_LEVELS = Levels(levels=[3], low=[-1.0], high=[1.0])
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"discretise_actions": _LEVELS},
    {"codec": "digest", "discretise": None},
    {"codec": "digest", "discretise": None, "discretise_actions": _LEVELS},
)


# What masks are called within observations.
_MASK_KEYS = ("action_mask", "legal_actions", "mask")
# How to live with a seed that decides nothing, in this order.
_SEEDINGS: tuple[dict[str, bool], ...] = ({}, {"seed_globals": True}, {"reproducible": False})


def profile_environment(section: EnvironmentSection) -> EnvironmentProfile:
    """Make the environment, and step it with random actions.

    Raises
    ------
    JobError
        if it is unknown, or has spaces that hpcq cannot use.
    EnvironmentFault
        if the user's code raises.
    """
    for seeding in _SEEDINGS:
        with contextlib.suppress(UnseededFault):
            return _profile(section.model_copy(update=seeding), seeding)
    raise AssertionError("the last way accepts everything")


def _profile(section: EnvironmentSection, seeding: dict[str, bool]) -> EnvironmentProfile:
    environment = _resolve(section)
    if isinstance(environment, CompiledEnvironment):
        return _profile_compiled(section, environment)
    env = environment.make()
    if key := _mask_key(env, environment.actions):
        close(env)
        masked = {"mask_key": key, "action_mask": True}
        return _profile(section.model_copy(update=masked), seeding)
    try:
        if not _gives_masks(env):
            # Its checks explain what would fail further down; it takes illegal actions, too.
            try_out(environment, seed_word(0))
        spaces = (env.observation_space, env.action_space)
        description = describe(spaces[0])
        stepper = GymnasiumStepper(env, environment, description)
        rollout = _faults_named(environment.id, lambda: roll_out(stepper, environment.actions))
    finally:
        close(env)
    spec = getattr(env, "spec", None)
    return EnvironmentProfile(
        section,
        environment,
        (_abbreviated(spaces[0]), _abbreviated(spaces[1])),
        components(description),
        components(describe(spaces[1])),
        _is_exact(section),
        bool(spec and spec.vector_entry_point),
        rollout,
        seeding,
    )


def _mask_key(env: Any, actions: int) -> str | None:
    """Return the key of a Dict observation that seems to hold the legal actions."""
    parts = getattr(env.observation_space, "spaces", None)
    if not isinstance(parts, dict) or len(parts) < 2 or actions > MOST_ACTIONS:
        return None
    keys = (key for key in _MASK_KEYS if key in parts and parts[key].shape == (actions,))
    return next(keys, None)


def _gives_masks(env: Any) -> bool:
    """Return whether infos seem to say which actions are legal."""
    return attempt(lambda: "action_mask" in env.reset(seed=0)[1])[0] is True


def _profile_compiled(
    section: EnvironmentSection, environment: CompiledEnvironment
) -> EnvironmentProfile:
    with contextlib.suppress(JobError):
        masked = resolve(section.model_copy(update={"action_mask": True}))
        assert isinstance(masked, CompiledEnvironment)
        environment = masked
    rollout = _faults_named(
        environment.id, lambda: roll_out(CompiledStepper(environment), environment.actions)
    )
    size = f"{Codec(environment.observation).size:,} states"
    actions = f"{environment.actions} actions"
    return EnvironmentProfile(section, environment, (size, actions), [], [], True, False, rollout)


def _resolve(section: EnvironmentSection) -> CompiledEnvironment | PythonEnvironment:
    first: JobError | None = None
    for variant in _VARIANTS:
        try:
            # One environment at a time: no VectorEnv.
            return resolve(section.model_copy(update={"vector": None, **variant}))
        except JobError as error:
            first = first or error
    assert first is not None
    raise first


def _is_exact(section: EnvironmentSection) -> bool:
    """Return whether observations have exact keys when each float has a single bin."""
    one = Discretise(bins=[1], low=[0.0], high=[1.0])
    for bins in ({}, {"discretise": one}):
        for levels in ({}, {"discretise_actions": _LEVELS}):
            with contextlib.suppress(JobError):
                resolve(section.model_copy(update={**bins, **levels}))
                return True
    return False


def _faults_named(name: str, function: Callable[[], Rollout]) -> Rollout:
    """Call a function; what the user's code raises becomes an `EnvironmentFault`."""
    try:
        return function()
    except (HpcqError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EnvironmentFault(
            f"{name} failed within {STEPS:,} random steps:\n{format_error(error)}"
        ) from error


def _abbreviated(space: Any) -> str:
    # Without memory addresses: the same text each time.
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(space).split()))
    return text if len(text) <= 160 else f"{text[:160]} ..."


def count_text(value: float) -> str:
    """Return a mean number of steps as text."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
