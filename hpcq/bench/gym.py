"""Python environments through hpcq, beside merely stepping them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcq.bench.tick import SHORT, measure
from hpcq.collectors.base import block
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.warmup import warm_up
from hpcq.mpi import agree, first_on_each_node
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
                # Gymnasium 1.0 has no such modes.
                mode = env.metadata.get("autoreset_mode")
                if getattr(mode, "name", "") == "DISABLED":
                    env.reset(options={"reset_mask": terminated | truncated})

    return loop


def stepping(comm: MPI.Intracomm, loop: Callable[[], None], count: int, ticks: int) -> float:
    """Return steps per second of all ranks' loops together, in about `ticks`. Collective."""
    repeats = max(1, round(ticks / _TICKS))
    comm.Barrier()
    begin = time.perf_counter()
    for _ in range(repeats):
        loop()
    took = comm.allreduce(time.perf_counter() - begin, MPI.MAX)
    return repeats * _TICKS * count / took


def _bins(id_: str) -> dict[str, Any]:
    """Return bins for every float of the observation."""
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
            # Random actions, as in stepping alone: the episodes must be alike.
            "exploration": {"epsilon": 1.0},
            "run": {"steps": 1},
        },
        "bench gym",
    )
    environment = agree(comm, lambda: resolve(job.environment))
    if not isinstance(environment, PythonEnvironment):
        raise JobError(f"{id_} is not stepped in Python")
    with first_on_each_node(comm):
        warm_up(job, environment)
    start, share = block(comm.rank, comm.size, environments, vector or 1)
    loop = (_scalar if vector is None else _vector)(environment, start, share)
    learner = LockstepLearner(job, environment, comm)
    learner.begin()
    # In turns, compared turn by turn: the speed of a shared machine drifts.
    turns: list[tuple[float, float]] = []

    def take_turns(ticks: int, rate: float) -> None:
        turns.append((rate, stepping(comm, loop, environments, ticks)))

    found = measure(learner, 2 * seconds, take_turns)
    through, alone = np.array(turns[SHORT:]).T
    learner.close()
    return {
        "environment": id_,
        "ranks": comm.size,
        "environments": environments,
        "vector": vector,
        "stepping": float(np.median(alone)),
        "ratio_to_stepping": float(np.median(through / alone)),
        **found,
    }
