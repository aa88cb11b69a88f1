"""From a job's [environment] section to an environment that a collector can step."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

from hpcq.envs import arrays
from hpcq.envs.guest import close
from hpcq.envs.gymnasium_env import (
    PythonEnvironment,
    constructed,
    python_environment,
    registered,
)
from hpcq.envs.loading import call, is_file, load, load_module
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.versions import check_gymnasium
from hpcq.envs.wrapping import indexed, wrapped
from hpcq.errors import EnvironmentFault, JobError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.spaces import masks

_PYTHON_ONLY = (
    "wrappers",
    "discretise",
    "discretise_actions",
    "vector",
    "seed_globals",
    "mask_key",
    "info",
    "reset_options",
    "observe",
)


def resolve(section: EnvironmentSection) -> PythonEnvironment | CompiledEnvironment:
    """Return the environment of a job, with or without masks.

    Raises
    ------
    JobError
        if the environment is unknown, or has spaces that hpcq cannot use.
    EnvironmentFault
        if the user's code raises.
    """
    environment = _find(section)
    if not section.action_mask:
        if isinstance(environment, CompiledEnvironment) and environment.masked:
            return dataclasses.replace(environment, legal=None)
        return environment
    if not environment.masked:
        raise JobError(
            f"environment.action_mask = true, but {environment.id} does not say which actions are "
            "legal; Taxi-v4 and bundled games do, compiled environments with a kernel `legal`, and "
            'Python environments by info["action_mask"]'
        )
    if environment.actions > masks.MOST_ACTIONS:
        raise JobError(
            f"environment.action_mask = true, but {environment.id} has {environment.actions:,} "
            f"actions; masks are for at most {masks.MOST_ACTIONS:,}"
        )
    return environment


def _find(section: EnvironmentSection) -> PythonEnvironment | CompiledEnvironment:
    if section.id.startswith("hpcq/"):
        from hpcq.envs import registry

        _refuse_python_keys(section, section.id)
        return registry.make(section)
    if section.id.endswith(arrays.SUFFIXES):
        _refuse_python_keys(section, section.id)
        if section.kwargs:
            raise JobError(f"environment.kwargs are given, but {section.id} is a file of arrays")
        return arrays.load(section.id, section.max_episode_steps)
    place, _, name = section.id.rpartition(":")
    if is_file(name) or name.endswith(".toml"):
        raise JobError(
            f"environment.id = {section.id!r} is a file's name; expected an id such as Taxi-v4, "
            "module:Name, or file.py:Name"
        )
    check_gymnasium()
    before = _registered_before()
    try:
        module = load_module(place) if place else None
    except JobError as error:
        raise JobError(f"environment.id = {section.id!r}: {error}") from None
    shown = f"{Path(place).name}:{name}" if is_file(place) else section.id
    import gymnasium

    if module is not None and not place.startswith("gymnasium"):
        _refuse_gymnasiums_own(section, name, before.get(name), gymnasium.registry.get(name))
    if module is None or name in gymnasium.registry or not name.isidentifier():
        return _registered(section, name, shown)
    try:
        found = load(section.id)
    except JobError as error:
        raise JobError(f"environment.id = {section.id!r}: {error}") from None
    return _own(section, found, shown)


@functools.cache
def _registered_before() -> dict[str, Any]:
    """Return what is registered before hpcq imports anything of the user's."""
    import gymnasium

    return dict(gymnasium.registry)


def _refuse_gymnasiums_own(section: EnvironmentSection, id_: str, before: Any, now: Any) -> None:
    """Refuse an id that is Gymnasium's, and not one of the named module's."""
    if before is not None and before is now and str(now.entry_point).startswith("gymnasium."):
        raise JobError(
            f"environment.id = {section.id!r}: {id_} is Gymnasium's own; the module that is named "
            f"has registered none of that id. Give {id_!r} alone, or 'module:Class'"
        )


def _refuse_python_keys(section: EnvironmentSection, name: str) -> None:
    for key in _PYTHON_ONLY:
        if getattr(section, key):
            raise JobError(f"environment.{key} is for Python environments, but {name} is compiled")


def _registered(
    section: EnvironmentSection, id_: str, shown: str
) -> PythonEnvironment | CompiledEnvironment:
    """Return a Gymnasium environment: toy text compiled, all others stepped by Python."""
    from hpcq.envs import tabular

    known = id_ in tabular.TOY_TEXT and not section.kwargs.get("fickle_passenger")
    if section.backend == "compiled":
        if not known:
            raise JobError(
                f"environment.backend = 'compiled', but {section.id!r} cannot be compiled; "
                f"expected one of {', '.join(tabular.TOY_TEXT)} (Taxi without "
                "fickle_passenger), hpcq's own hpcq/..., or backend = 'python'"
            )
        _refuse_python_keys(section, section.id)
    plain = section.codec == "exact" and not any(getattr(section, key) for key in _PYTHON_ONLY)
    make = wrapped(section, registered(section, id_))
    with _closing(make()) as first:
        if known and plain and section.backend != "python":
            return tabular.from_toy_text(first, section.id)
        return python_environment(section, shown, make, first)


def _own(
    section: EnvironmentSection, found: Any, shown: str
) -> PythonEnvironment | CompiledEnvironment:
    """Return the user's own environment: compiled, or from a constructor of either kind."""
    first = found
    if not isinstance(found, CompiledEnvironment):
        if not callable(found):
            raise JobError(
                f"environment.id = {section.id!r} is a {type(found).__name__}, expected a "
                "gymnasium.Env, a CompiledEnvironment, or a function that returns one"
            )
        _want_size(section, found)
        make = constructed(section, found)
        first = make() if section.vector else call(section.id, found, **indexed(section.kwargs, 0))
    elif section.kwargs:
        raise JobError(f"environment.kwargs are given, but {shown} is not a function")
    if isinstance(first, CompiledEnvironment):
        if section.backend == "python":
            raise JobError(f"environment.backend = 'python', but {shown} is compiled")
        _refuse_python_keys(section, shown)
        limit = section.max_episode_steps or first.max_episode_steps
        return dataclasses.replace(first, id=shown, max_episode_steps=limit)
    if section.backend == "compiled":
        raise JobError(f"environment.backend = 'compiled', but {shown} is not compiled")
    if not hasattr(first, "close"):
        raise EnvironmentFault(f"{shown} gave a {type(first).__name__}, expected a gymnasium.Env")
    close(first)
    make = wrapped(section, make)
    with _closing(make()) as first:
        return python_environment(section, shown, make, first)


def _want_size(section: EnvironmentSection, found: Any) -> None:
    """Refuse the class of a VectorEnv without a size."""
    from gymnasium.vector import VectorEnv

    if section.vector is None and isinstance(found, type) and issubclass(found, VectorEnv):
        raise JobError(
            f"environment.id = {section.id!r} is a VectorEnv: give the number of environments in "
            "each as environment.vector, and a multiple of it as environment.count"
        )


@contextlib.contextmanager
def _closing(env: Any) -> Any:
    try:
        yield env
    finally:
        close(env)
