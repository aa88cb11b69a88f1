"""A short flight before training: one environment on every rank, so that mistakes come early."""

import numpy as np

from hpcq.collector import block
from hpcq.envs.adapter import PythonEnvironment
from hpcq.hashing import seed_word
from hpcq.job import Job
from hpcq.vector_collector import gymnasium_collector

STEPS = 10


def check(job: Job, environment: PythonEnvironment, rank: int, ranks: int) -> None:
    """Reset this rank's first environment (or VectorEnv) and take a few steps with every action.

    Raises
    ------
    EnvironmentFault
        naming the environment, the tick, the episode and the action.
    """
    unit = environment.vector or 1
    start, _ = block(rank, ranks, job.environment.count, unit)
    seed = seed_word(job.run.seed)
    collector = gymnasium_collector(environment, seed, start, unit, STEPS)
    try:
        collector.begin()
        numbers = np.arange(unit)
        for tick in range(1, STEPS + 1):
            collector.actors["hash"] = collector.actors["next"]
            collector.actors["action"] = (numbers + tick - 1) % environment.actions
            collector.step(tick)
    finally:
        collector.close()
