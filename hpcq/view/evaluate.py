"""The return of a checkpoint's greedy policy, in the environment of its job."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from hpcq.collectors.batch import Outcome
from hpcq.collectors.factory import make_collector
from hpcq.collectors.infos import EpisodeInfos, means
from hpcq.confidence import half_width
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, JobError
from hpcq.hashing import keys_of
from hpcq.job.environment_section import EnvironmentSection
from hpcq.job.job import Job
from hpcq.printable import printable
from hpcq.rng import seed_word
from hpcq.run import run_directory
from hpcq.run.resumable import check_places
from hpcq.spaces.masks import legal_actions
from hpcq.view.policy import Policy
from hpcq.view.rundata import load_job
from hpcq.view.table import Table

# Environments stepped together, and time limit of episodes that have none.
AT_ONCE = 64
MOST_STEPS = 10_000


def job_of(table: Table, given: Path | None = None) -> Job:
    """Return the job in whose environment a checkpoint is evaluated.

    It is the one `given`, or that of the run directory (job.json), or else the one in the file
    itself, unless that names user code: nothing is imported because a checkpoint names it.

    Raises
    ------
    JobError
        saying how to give it.
    """
    if given is not None:
        return Job.load(given)
    stored = table.path.parent / run_directory.JOB
    if stored.exists():
        job = load_job(stored)
        check_places(job, "if it has moved, give the job file: --job JOB.toml")
        return job
    job = Job.saved(table.job, str(table.path))
    for entry in (job.environment.id, *(wrapper.entry for wrapper in job.environment.wrappers)):
        if ":" in entry:
            raise JobError(
                f"{table.path} names code of its own, {printable(entry)}, and nothing is imported "
                "because a checkpoint names it: give the job file, --job JOB.toml"
            )
    return job


def environment_of(
    table: Table, section: EnvironmentSection
) -> PythonEnvironment | CompiledEnvironment:
    """Return the environment of a job, with a time limit if it has none.

    Raises
    ------
    CheckpointError
        if it has other states or actions than the table.
    """
    environment = resolve(section)
    if environment.max_episode_steps is None and section.vector is None:
        environment = resolve(section.model_copy(update={"max_episode_steps": MOST_STEPS}))
    header = table.header
    for what, found, expected in (
        ("observation space", header.observation, environment.observation),
        ("actions", header.actions, environment.actions),
        ("action space", header.action, environment.action),
    ):
        if found != expected:
            raise CheckpointError(
                f"{table.path}: {what} {printable(found)}, but {environment.id} has {expected}"
            )
    return environment


def evaluate(
    path: str | Path, episodes: int = 100, seed: int = 0, job: Path | None = None
) -> dict[str, Any]:
    """Return mean, 95 % confidence interval and spread of the greedy policy's returns.

    Returns are undiscounted. Each environment plays a fixed number of episodes: otherwise short
    ones would be overrepresented.

    Parameters
    ----------
    path
        a checkpoint, or a run directory: its newest checkpoint.
    job
        a job file; see `job_of`.

    Raises
    ------
    CheckpointError, JobError, EnvironmentFault
        for a file that is not a checkpoint, an environment that cannot be made, or that fails.
    """
    policy = Policy(path)
    with policy.table as table:
        environment = environment_of(table, job_of(table, job).environment)
        returns, lengths, truncated, unseen, infos = _play(policy, environment, episodes, seed)
        return {
            "file": str(table.path),
            "environment": environment.id,
            "steps": table.header.step,
            "episodes": len(returns),
            "seed": seed,
            "mean_return": float(np.mean(returns)),
            "half_width": half_width(returns) if len(returns) > 1 else None,
            "standard_deviation": float(np.std(returns, ddof=1)) if len(returns) > 1 else None,
            "smallest_return": min(returns),
            "largest_return": max(returns),
            "mean_length": float(np.mean(lengths)),
            "truncated": truncated,
            "unseen": unseen / sum(lengths),
            **infos,
        }


def _play(
    policy: Policy,
    environment: PythonEnvironment | CompiledEnvironment,
    episodes: int,
    seed: int,
) -> tuple[list[float], list[int], int, int, dict[str, float | None]]:
    """Return the episodes' returns and lengths, the number truncated, steps in unseen states.

    And the means of numbers in their infos.
    """
    unit = (isinstance(environment, PythonEnvironment) and environment.vector) or 1
    count = -(-min(episodes, AT_ONCE) // unit) * unit
    left = np.array([(episodes + count - 1 - i) // count for i in range(count)])
    collector = make_collector(environment, seed_word(seed), 0, count, 1 << 60)
    batch = collector.batch
    returned, elapsed, is_unseen = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    returns: list[float] = []
    lengths: list[int] = []
    truncated = unseen = tick = 0
    infos = EpisodeInfos(collector.infos.keys, count)
    with contextlib.closing(collector):
        collector.begin()
        while left.any():
            tick += 1
            batch.hash[:] = batch.next_hash
            if environment.masked:
                legal = legal_actions(batch.next_mask, environment.actions)
            for i, key in enumerate(keys_of(batch.hash).tolist()):
                batch.action[i] = policy.number(key, legal[i] if environment.masked else None)
                is_unseen[i] = policy.row(key) is None
            collector.step(tick)
            infos.add(collector.infos.values)
            for i in np.flatnonzero((batch.outcome != Outcome.RESET) & (left > 0)).tolist():
                returned[i] += batch.reward[i]
                elapsed[i] += 1
                unseen += int(is_unseen[i])
                if batch.outcome[i] != Outcome.CONTINUES:
                    returns.append(float(returned[i]))
                    lengths.append(int(elapsed[i]))
                    infos.end([i])
                    truncated += int(batch.outcome[i] == Outcome.TRUNCATED)
                    returned[i] = elapsed[i] = 0
                    left[i] -= 1
    return returns, lengths, truncated, unseen, means(infos.keys, infos.stats)
