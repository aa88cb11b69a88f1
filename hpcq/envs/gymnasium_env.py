"""Gymnasium environments that a job names, and how to make them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcq.envs.guest import attempt, cut_short, format_error
from hpcq.envs.loading import call, check_arguments, takes, with_arrays
from hpcq.envs.old_gym import OLD_GYM, is_old_gym, where_registered
from hpcq.envs.wrapping import indexed
from hpcq.errors import DependencyError, EnvironmentFault, HpcqError, JobError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import describe


@dataclass(frozen=True)
class PythonEnvironment:
    """A Gymnasium environment that Python steps, and what hpcq needs to know of it."""

    id: str
    observation: dict[str, Any]
    """the observation space, as `codec.describe` gives it"""
    action_set: Actions
    make: Callable[..., Any]
    """returns a new instance: an Env, or a VectorEnv of `vector` environments. Its argument is the
    number of the (first) environment; default 0"""
    max_episode_steps: int | None
    vector: int | None
    """environments in a native VectorEnv; None: hpcq steps Envs itself"""
    self_play: bool | None = None
    """whether every observation is that of the player to move; None: unknown"""
    masked: bool = False
    """whether info["action_mask"] says which actions are legal"""
    reproducible: bool = True
    """whether a seed must decide the first observation"""
    info: tuple[str, ...] = ()
    """keys of the infos whose numbers are reported"""

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.action_set.count

    @property
    def action(self) -> dict[str, Any]:
        """What the numbers of the actions stand for, see `Actions.described`."""
        return self.action_set.description


def registered(section: EnvironmentSection, id_: str) -> Callable[..., Any]:
    """Return a function that makes the environment registered as `id_`."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    name, vector = f"environment.id = {section.id!r}", section.vector
    kwargs = dict(section.kwargs)
    if section.max_episode_steps is not None:
        kwargs["max_episode_steps"] = section.max_episode_steps

    def make(index: int = 0) -> Any:
        own = indexed(kwargs, index)
        try:
            if vector is None:
                return gymnasium.make(id_, disable_env_checker=True, **own)
            mode = "vector_entry_point"
            return gymnasium.make_vec(id_, vector, vectorization_mode=mode, **own)
        except (HpcqError, KeyboardInterrupt):
            raise
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise DependencyError(f"{name}: {error}") from error
        except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound) as error:
            raise JobError(f"{name}: {error} {where_registered(section.id, id_)}") from error
        except gymnasium.error.Error as error:
            raise JobError(
                f"{name}: gymnasium.make failed (Gymnasium {gymnasium.__version__}): "
                f"{type(error).__name__}: {error}"
            ) from error
        except BaseException as error:
            raise EnvironmentFault(
                f"{section.id} cannot be made:\n{format_error(error)}"
            ) from error

    spec = gymnasium.registry.get(id_)
    entry = spec and (spec.entry_point if vector is None else spec.vector_entry_point)
    if spec is not None and vector is not None and entry is None:
        raise JobError(
            f"{name} has no VectorEnv of its own (no vector_entry_point); without "
            "environment.vector, hpcq steps its environments one by one"
        )
    if isinstance(entry, str):
        # If it cannot be loaded, `make` raises the error.
        with contextlib.suppress(Exception):
            entry = load_env_creator(entry)
    if spec is not None and callable(entry):
        given = {**spec.kwargs, **section.kwargs}
        if vector is not None:
            given = {"max_episode_steps": spec.max_episode_steps, **kwargs, "num_envs": vector}
            if given["max_episode_steps"] is None:
                del given["max_episode_steps"]
        check_arguments(section.id, entry, **given)
        kwargs = with_arrays(entry, kwargs)
    return make


def constructed(section: EnvironmentSection, constructor: Callable) -> Callable[..., Any]:
    """Return a function that makes an environment by calling the user's `constructor`."""
    import gymnasium

    kwargs = dict(section.kwargs)
    if section.vector is not None:
        kwargs["num_envs"] = section.vector
        if not takes(constructor, "num_envs"):
            raise JobError(
                f"environment.vector = {section.vector}, but {section.id} takes no num_envs: it "
                "makes no VectorEnv; without environment.vector, hpcq steps its environments one "
                "by one"
            )
        if section.max_episode_steps is not None:
            kwargs["max_episode_steps"] = section.max_episode_steps

    def make(index: int = 0) -> Any:
        env = call(section.id, constructor, **indexed(kwargs, index))
        if section.vector is None and section.max_episode_steps is not None:
            env = gymnasium.wrappers.TimeLimit(env, section.max_episode_steps)
        return env

    return make


def python_environment(
    section: EnvironmentSection, name: str, make: Callable[..., Any], first: Any
) -> PythonEnvironment:
    """Describe an environment by a first instance of it.

    Raises
    ------
    JobError
        if it has spaces that hpcq cannot use.
    EnvironmentFault
        if it is no environment of Gymnasium's.
    """
    import gymnasium
    from gymnasium.vector import VectorEnv

    vector = section.vector
    expected: type = gymnasium.Env if vector is None else VectorEnv
    if not isinstance(first, expected):
        hint = ""
        if isinstance(first, VectorEnv):
            hint = "; give its size as environment.vector"
        elif is_old_gym(first):
            hint = f"; it is one of the old package gym: {OLD_GYM}"
        raise EnvironmentFault(
            f"{name} is a {type(first).__name__}, expected a gymnasium.{expected.__name__}{hint}"
        )
    if vector is not None and section.count % vector:
        raise JobError(
            f"environment.count = {section.count}, expected a multiple of environment.vector = "
            f"{vector}"
        )
    spaces = []
    for kind in ("observation_space", "action_space"):
        attribute = kind if vector is None else f"single_{kind}"
        space, failed = attempt(getattr, first, attribute, None)
        if failed:
            raise EnvironmentFault(f"{name}: {attribute} raised\n{format_error(failed)}")
        if not isinstance(space, gymnasium.Space):
            hint = f"; it is one of the old package gym: {OLD_GYM}" if is_old_gym(space) else ""
            raise EnvironmentFault(
                f"{name}: {attribute} is {cut_short(space)}, expected a gymnasium.Space{hint}"
            )
        spaces.append(space)
    try:
        observation = describe(spaces[0], section.discretise, section.codec)
        action_set = Actions(spaces[1], section.discretise_actions)
    except JobError as error:
        raise JobError(f"{name}: {error}") from None
    spec, _ = attempt(getattr, first, "spec", None)
    limit = getattr(spec, "max_episode_steps", section.max_episode_steps if spec is None else None)
    self_play = _self_play(first)
    masked = section.action_mask
    return PythonEnvironment(
        name,
        observation,
        action_set,
        make,
        limit,
        vector,
        self_play,
        masked,
        section.reproducible,
        tuple(section.info),
    )


def _self_play(env: Any) -> bool | None:
    """Return metadata["self_play"]; Gymnasium's own environments have one player."""
    said, _ = attempt(lambda: env.metadata.get("self_play"))
    if isinstance(said, bool):
        return said
    home = type(attempt(lambda: env.unwrapped)[0]).__module__
    return False if home.startswith("gymnasium.") else None
