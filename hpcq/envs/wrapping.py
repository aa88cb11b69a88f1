"""What a job puts around an environment: its wrappers, and hpcq's for masks and seeds."""

from collections.abc import Callable
from typing import Any

from hpcq.envs.loading import call, load
from hpcq.errors import JobError
from hpcq.job.environment_section import EnvironmentSection


def indexed(value: Any, index: int) -> Any:
    """Return arguments in which ``{index}`` is the number of an environment."""
    if isinstance(value, str):
        return index if value == "{index}" else value.replace("{index}", str(index))
    if isinstance(value, dict):
        return {name: indexed(part, index) for name, part in value.items()}
    return [indexed(part, index) for part in value] if isinstance(value, list) else value


def wrapped(section: EnvironmentSection, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the environment with the job's wrappers around it."""
    for key in ("seed_globals", "mask_key", "reset_options", "observe"):
        if section.vector is not None and getattr(section, key):
            raise JobError(
                f"environment.{key} is for environments that hpcq steps one by one: leave out "
                "environment.vector"
            )
    made = _layered(section, make)
    if section.reset_options:
        made = _with_options(made, section.reset_options)
    if section.mask_key is not None:
        made = _unmasked(made, section.mask_key)
    if section.observe is not None:
        made = _picked(made, section.observe)
    return _self_seeded(made) if section.seed_globals else made


def _unmasked(make: Callable[..., Any], key: str) -> Callable[..., Any]:
    from hpcq.envs.masking import MaskFromObservation

    return lambda index=0: MaskFromObservation(make(index), key)


def _with_options(make: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    from hpcq.envs.picking import ResetOptions

    return lambda index=0: ResetOptions(make(index), indexed(options, index))


def _picked(make: Callable[..., Any], parts: list[int | str]) -> Callable[..., Any]:
    from hpcq.envs.picking import PartsOfObservation

    return lambda index=0: PartsOfObservation(make(index), parts)


def _self_seeded(make: Callable[..., Any]) -> Callable[..., Any]:
    from hpcq.envs.seeding import GlobalSeeds

    return lambda index=0: GlobalSeeds(lambda: make(index))


def _layered(section: EnvironmentSection, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the environment with the wrappers around it."""
    if not section.wrappers:
        return make
    try:
        layers = [(wrapper, load(wrapper.entry)) for wrapper in section.wrappers]
    except JobError as error:
        raise JobError(f"environment.wrappers: {error}") from None

    def made(index: int = 0) -> Any:
        env = make(index)
        for wrapper, layer in layers:
            env = call(wrapper.entry, layer, env, **indexed(wrapper.kwargs, index))
        return env

    return made
