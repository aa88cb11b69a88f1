"""One episode of a checkpoint's greedy policy as an animated GIF."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from hpcq.envs.guest import format_error
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.errors import DependencyError, EnvironmentFault, HpcqError, JobError, StorageError
from hpcq.job.job import Job
from hpcq.view.evaluate import environment_of, job_of
from hpcq.view.policy import Policy

MOST_FRAMES = 500

# Render in memory: pygame needs no display and no welcome message.
_HEADLESS = {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


def render(path: str | Path, output: Path, seed: int = 0, job: Path | None = None) -> int:
    """Write an episode as a GIF; return the number of frames, at most 500.

    Parameters
    ----------
    path
        a checkpoint, or a run directory: its newest checkpoint.
    job
        a job file; see `evaluate.job_of`.

    Raises
    ------
    JobError
        where the environment does not render, naming it.
    DependencyError
        without pillow, or what the environment renders with.
    """
    if output.suffix != ".gif":
        raise JobError(f"{output}: expected a name that ends in .gif")
    try:
        from PIL import Image
    except ImportError:
        raise DependencyError("--render needs pillow: pip install 'hpcq[plot]'") from None
    for name, value in _HEADLESS.items():
        os.environ.setdefault(name, value)
    policy = Policy(path)
    with policy.table as table:
        environment = _rendering(policy, job_of(table, job))
        env = environment.make()
        try:
            frames = _frames(policy, environment, env, seed)
        finally:
            env.close()
        pause = 1000 / env.metadata.get("render_fps", 4)
    images = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
    try:
        images[0].save(output, save_all=True, append_images=images[1:], duration=pause, loop=0)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written: {error.strerror}") from None
    return len(images)


def _rendering(policy: Policy, job: Job) -> PythonEnvironment:
    """Return the environment with render_mode = "rgb_array"."""
    section = job.environment
    changes = {
        "backend": "python",
        "vector": None,
        "kwargs": {**section.kwargs, "render_mode": "rgb_array"},
    }
    what = f"{section.id} does not render"
    if section.id.startswith("hpcq/"):
        raise JobError(f"{what}: hpcq's own environments cannot")
    try:
        found = environment_of(policy.table, section.model_copy(update=changes))
    except JobError as error:
        raise JobError(f"{what}: {error}") from None
    assert isinstance(found, PythonEnvironment)
    return found


def _frames(policy: Policy, environment: PythonEnvironment, env: Any, seed: int) -> list[Any]:
    try:
        observation, _ = env.reset(seed=seed)
        frames, over = [env.render()], False
        while not over and len(frames) < MOST_FRAMES:
            observation, _, terminated, truncated, _ = env.step(policy(observation))
            frames.append(env.render())
            over = terminated or truncated
    except HpcqError:
        raise
    except Exception as error:
        import gymnasium

        if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
            raise DependencyError(f"{environment.id}: {error}") from error
        raise EnvironmentFault(f"{environment.id}:\n{format_error(error)}") from error
    for frame in frames:
        if np.ndim(frame) != 3 or np.shape(frame)[2] not in (3, 4):
            raise JobError(
                f"{environment.id} does not render: render() gave {type(frame).__name__} of shape "
                f"{np.shape(frame)}, expected rgb_array (height, width, 3)"
            )
    return frames
