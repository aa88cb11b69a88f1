"""`hpcq check`: what can be known of a job without training it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpcq.checkpoint import saving
from hpcq.checkpoint.files import locate
from hpcq.checkpoint.reader import opened
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, JobError, StorageError
from hpcq.job.job import Job
from hpcq.learning.algorithm import Algorithm
from hpcq.rng import seed_word
from hpcq.run import compiling, preflight, run_directory, tensorboard
from hpcq.run.estimate import estimate, size
from hpcq.run.formatting import ranks_text, rate_text, time_text
from hpcq.spaces.codec import Codec

# Steps, and seconds, by which a Python environment's speed is measured.
STEPS, SECONDS = 1000, 2.0
# Of larger state spaces a run will see a part that nobody knows.
MOST_STATES = 1 << 32
# Even where nothing else takes time, a rank does not do more steps a second in Python.
PYTHON_RATE = 1e6


def check(job: Job, ranks: int) -> Iterator[str]:
    """Yield what was found, line by line.

    Raises
    ------
    HpcqError
        as `hpcq run` would, at the first thing that is wrong.
    """
    try:
        environment = resolve(job.environment)
    except JobError as error:
        raise JobError(f"{job.source}: {error}") from error
    Algorithm.of(job, environment)
    yield _environment_text(job, environment)
    compiling.check_own(environment)
    saving.choose_writer(job.checkpoint.writer)
    if job.run.tensorboard:
        tensorboard.check()
    if job.run.start_from is not None:
        source, found = locate(job.path(job.run.start_from))
        with opened(source, found) as (_, header):
            pass
        if (header.observation, header.action) != (environment.observation, environment.action):
            raise CheckpointError(f"{source}: its states or actions are not the environment's")
        yield f"start from     {source}, {header.rows:,} states"
    rate = None
    if isinstance(environment, PythonEnvironment):
        seed = seed_word(job.run.seed)
        taken = preflight.try_out(environment, seed, steps=STEPS, seconds=SECONDS)
        rate = 1 / max(taken, 1 / PYTHON_RATE)
        yield f"steps          a few were taken; about {rate_text(rate)} a second and rank"
    yield _time_text(job, rate, ranks)
    yield from _memory_texts(job, environment, ranks)
    yield _directory_text(job)


def _environment_text(job: Job, environment: PythonEnvironment | CompiledEnvironment) -> str:
    kind = "compiled" if isinstance(environment, CompiledEnvironment) else "in Python"
    masks = ", masks" if environment.masked else ""
    return (
        f"environment    {environment.id} ({kind}): {_states_text(environment)}, "
        f"{environment.actions:,} actions{masks}; {job.environment.count:,} at once"
    )


def _states(environment: PythonEnvironment | CompiledEnvironment) -> int | None:
    """Return the size of the state space; None where observations are digested."""
    if environment.observation["kind"] == "Digest":
        return None
    return Codec(environment.observation).size


def _states_text(environment: PythonEnvironment | CompiledEnvironment) -> str:
    states = _states(environment)
    return "digests of observations" if states is None else f"{states:,} states"


def _time_text(job: Job, rate: float | None, ranks: int) -> str:
    steps = f"{job.run.steps:,} steps"
    if rate is None:
        return f"time           {steps}; compiled environments do some millions a second and rank"
    seconds = job.run.steps / rate / min(ranks, job.environment.count)
    return f"time           {steps}: {time_text(seconds)} or more on {ranks_text(ranks)}"


def _memory_texts(
    job: Job, environment: PythonEnvironment | CompiledEnvironment, ranks: int
) -> Iterator[str]:
    states = _states(environment)
    known = states is not None and states <= MOST_STATES
    # Every step may see a state that is new.
    most = min(job.run.steps, states) if known and states is not None else job.run.steps
    found = estimate(job, min(most, MOST_STATES), ranks, ranks)
    yield (
        f"memory         {size(found['rank_bytes'])} a rank, if it comes to {found['states']:,} "
        f"states ({found['state_bytes']:.0f} bytes each)"
    )
    yield (
        f"disk           {size(found['checkpoint_bytes'] * found['checkpoints'])} then, for "
        f"{found['checkpoints']} checkpoints; {size(_free(job.directory))} are free"
    )


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest folder above it that there is."""
    directory = directory.absolute()
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _free(directory: Path) -> int:
    try:
        return shutil.disk_usage(_existing(directory)).free
    except OSError as error:
        raise StorageError(f"{directory}: cannot be looked at: {error.strerror}") from None


def _directory_text(job: Job) -> str:
    place = _existing(job.directory)
    if place == job.directory.absolute() or not os.access(place, os.W_OK | os.X_OK):
        run_directory.check(place, overwrite=False)
    return f"run directory  {job.directory}"
