"""Python environments through hpcq, beside merely stepping them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from mpi4py import MPI

from hpcq.bench.tick import measure
from hpcq.collectors.collector import block
from hpcq.envs import PythonEnvironment, resolve
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.learning.learner import Learner
from hpcq.learning.warm import warm
from hpcq.parallel import agree, first_on_each_node
from hpcq.spaces.discretise import components
from hpcq.spaces.spaces import describe

_TICKS = 64
_BINS, _RANGE = 8, 3.0


def _scalar(environment: PythonEnvironment, start: int, share: int) -> Callable[[], None]:
    """Return a loop of `_TICKS` steps of `share` Envs; one whose episode ends is reset.

    Actions are drawn beforehand.
    """
    environments = [environment.make() for _ in range(share)]
    for i, env in enumerate(environments):
        env.reset(seed=start + i)
    drawn = np.random.default_rng(start).integers(environment.actions, size=(_TICKS, share))
    actions = [environment.action_set.each(row) for row in drawn]

    def loop() -> None:
        for row in actions:
            for env, action in zip(environments, row, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()

    return loop


def _vector(environment: PythonEnvironment, start: int, share: int) -> Callable[[], None]:
    """Return a loop of `_TICKS` steps of VectorEnvs, `share` environments in all."""
    size = environment.vector or share
    environments = [environment.make() for _ in range(share // size)]
    for i, env in enumerate(environments):
        env.reset(seed=start + i * size)
    drawn = np.random.default_rng(start).integers(environment.actions, size=(_TICKS, size))
    actions = [environment.action_set.batch(row) for row in drawn]

    def loop() -> None:
        for row in actions:
            for env in environments:
                _, _, terminated, truncated, _ = env.step(row)
                if env.metadata["autoreset_mode"] == AutoresetMode.DISABLED:
                    env.reset(options={"reset_mask": terminated | truncated})

    return loop


def stepping(
    comm: MPI.Intracomm, loop: Callable[[], None], count: int, seconds: float
) -> list[float]:
    """Return steps per second of all ranks' loops together, time after time. Collective."""
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 5 or comm.allreduce(time.perf_counter() < end, MPI.LAND):
        comm.Barrier()
        begin = time.perf_counter()
        loop()
        took = comm.allreduce(time.perf_counter() - begin, MPI.MAX)
        rates.append(_TICKS * count / took)
    return rates


def _bins(id_: str) -> dict[str, Any]:
    """Return bins for every float of the observation, wherever they are."""
    import gymnasium

    try:
        env = gymnasium.make(id_)
    except gymnasium.error.Error:
        return {}
    floats = components(describe(env.observation_space))
    env.close()
    if not floats:
        return {}
    return {
        "discretise": {
            "bins": [_BINS],
            "low": [-_RANGE if low is None else low for _, low, _ in floats],
            "high": [_RANGE if high is None else high for _, _, high in floats],
        }
    }


def bench(
    comm: MPI.Intracomm, id_: str, environments: int, vector: int | None, seconds: float
) -> dict[str, Any]:
    """Compare hpcq's rate on a Gymnasium environment with that of stepping alone. Collective.

    Parameters
    ----------
    vector
        environments in each native VectorEnv; None: Envs, one by one.

    Raises
    ------
    JobError
        if the environment is unknown or has spaces that hpcq cannot use.
    """
    section = {"id": id_, "count": environments, "backend": "python", "vector": vector}
    job = Job.check(
        {
            "name": "gym",
            "environment": {**section, **_bins(id_)},
            "learning": {"gamma": 0.99, "learning_rate": 0.1},
            # As at random as the steps alone, or the episodes would be others.
            "exploration": {"epsilon": 1.0},
            "run": {"steps": 1},
        },
        "bench gym",
    )
    environment = agree(comm, lambda: resolve(job.environment))
    if not isinstance(environment, PythonEnvironment):
        raise JobError(f"{id_} is not stepped in Python")
    with first_on_each_node(comm):
        warm(job, environment)
    start, share = block(comm.rank, comm.size, environments, vector or 1)
    loop = (_scalar if vector is None else _vector)(environment, start, share)
    learner = Learner(job, environment, comm)
    learner.begin()
    # Half of it before and half after, since the speed of a shared machine drifts.
    rates = stepping(comm, loop, environments, seconds / 2)
    found = measure(learner, seconds)
    rates += stepping(comm, loop, environments, seconds / 2)
    alone = float(np.median(rates))
    learner.close()
    return {
        "environment": id_,
        "ranks": comm.size,
        "environments": environments,
        "vector": vector,
        "stepping": alone,
        "ratio_to_stepping": found["transitions_per_second"] / alone,
        **found,
    }
