"""From the job's [environment] section to an environment that a collector can step."""

import contextlib
import traceback
from dataclasses import dataclass
from typing import Any

from hpcq import codec
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.errors import EnvironmentFault, JobError
from hpcq.job import EnvironmentSection


@dataclass(frozen=True)
class PythonEnvironment:
    """A Gymnasium environment that Python steps, and what hpcq needs to know of it."""

    id: str
    observation: dict[str, Any]
    """the observation space, as `codec.describe` gives it"""
    actions: int
    action_start: int
    options: dict[str, Any]
    max_episode_steps: int | None

    def make(self) -> Any:
        """Return a new instance."""
        import gymnasium

        return gymnasium.make(self.id, disable_env_checker=True, **self.options)


def _gymnasium(section: EnvironmentSection) -> PythonEnvironment | CompiledEnvironment:
    import gymnasium

    from hpcq.envs import table

    options = dict(section.kwargs)
    if section.max_episode_steps is not None:
        options["max_episode_steps"] = section.max_episode_steps
    try:
        env = gymnasium.make(section.id, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise JobError(
            f"environment.id = {section.id!r}: gymnasium.make failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    except Exception as error:
        text = "".join(traceback.format_exception(error)).rstrip()
        raise EnvironmentFault(f"{section.id} cannot be made:\n{text}") from error
    try:
        known = section.id in table.TOY_TEXT and not section.kwargs.get("fickle_passenger")
        if section.backend == "compiled" and not known:
            raise JobError(
                f"environment.backend = 'compiled', but {section.id!r} cannot be compiled; "
                f"expected one of {', '.join(table.TOY_TEXT)} (Taxi without "
                "fickle_passenger), hpcq's own hpcq/..., or backend = 'python'"
            )
        if known and section.backend != "python":
            return table.from_toy_text(env, section.id)
        if not isinstance(env.action_space, gymnasium.spaces.Discrete):
            raise JobError(f"{section.id}: action space {env.action_space}, expected Discrete")
        try:
            observation = codec.describe(env.observation_space)
        except JobError as error:
            raise JobError(f"{section.id}: {error}") from None
        limit = env.spec.max_episode_steps if env.spec else None
        space: Any = env.action_space
        return PythonEnvironment(
            section.id, observation, int(space.n), int(space.start), options, limit
        )
    finally:
        with contextlib.suppress(Exception):
            env.close()


def resolve(section: EnvironmentSection) -> PythonEnvironment | CompiledEnvironment:
    """Return what the section asks for.

    Raises
    ------
    JobError
        if the environment is unknown, or has spaces that hpcq cannot use.
    """
    if section.id.startswith("hpcq/"):
        from hpcq.envs import bundled

        return bundled.make(section)
    return _gymnasium(section)
