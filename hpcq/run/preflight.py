"""Take a few steps on every rank before training, so that faulty environments are found early."""

import math
import time

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import block
from hpcq.collectors.factory import make_collector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.job.job import Job
from hpcq.rng import seed_word
from hpcq.spaces.masks import legal_actions

STEPS = 10


def check(
    job: Job, environment: PythonEnvironment | CompiledEnvironment, rank: int, ranks: int
) -> None:
    """Reset this rank's first environment (or VectorEnv) and take a few steps with every action.

    Raises
    ------
    EnvironmentFault
        naming the environment, the tick, the episode and the action.
    """
    if isinstance(environment, PythonEnvironment):
        start, _ = block(rank, ranks, job.environment.count, environment.vector or 1)
        try_out(environment, seed_word(job.run.seed), start)


def try_out(
    environment: PythonEnvironment,
    seed: np.uint64,
    start: int = 0,
    steps: int = STEPS,
    seconds: float = math.inf,
) -> float:
    """Reset environment `start` (or its VectorEnv) and take a few steps with every action.

    Returns
    -------
    float
        seconds that a step of one environment took, by the mean of `steps` of them, or of as many
        as began within `seconds`.

    Raises
    ------
    EnvironmentFault
        as `check`.
    """
    unit = environment.vector or 1
    collector = make_collector(environment, seed, start, unit, steps)
    try:
        collector.begin()
        numbers, began = np.arange(unit), time.perf_counter()
        for tick in range(1, steps + 1):
            if time.perf_counter() - began > seconds:
                tick -= 1
                break
            collector.batch.hash[:] = collector.batch.next_hash
            wanted = (numbers + tick - 1) % environment.actions
            if environment.masked:
                wanted = _legal_from(wanted, collector.batch.next_mask, environment.actions)
            collector.batch.action[:] = wanted
            collector.step(tick)
        return (time.perf_counter() - began) / max(tick, 1) / unit
    finally:
        collector.close()


def _legal_from(wanted: NDArray, masks: NDArray[np.uint64], actions: int) -> NDArray:
    """Return for each number the first legal action from it on, cyclically."""
    order = (wanted[:, None] + np.arange(actions)) % actions
    legal = np.take_along_axis(legal_actions(masks, actions), order, axis=1)
    return order[np.arange(wanted.size), legal.argmax(axis=1)]
