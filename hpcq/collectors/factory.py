"""The collector that fits an environment."""

import numpy as np

from hpcq.collectors.base import Collector, EnvBlock, batch_of
from hpcq.collectors.compiled import CompiledCollector
from hpcq.collectors.continuous import ContinuousCollector
from hpcq.collectors.python import PythonCollector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment, ContinuousEnvironment
from hpcq.spaces.masks import words_of


def make_collector(
    environment: CompiledEnvironment | PythonEnvironment,
    seed: np.uint64,
    start: int,
    count: int,
    reset_every: int,
    batch: int = 0,
    batches: int = 1,
) -> Collector:
    """Return the collector of the environments `start` ... `start + count - 1`.

    Parameters
    ----------
    environment
        from `envs.resolve.resolve`.
    seed
        a `rng.seed_word`.
    reset_every
        ticks between reset ticks, for environments whose state cannot be saved.
    batch, batches
        only those of this batch, of so many.
    """
    unit = (isinstance(environment, PythonEnvironment) and environment.vector) or 1
    numbers = batch_of(start, count, batch, batches, unit)
    words = words_of(environment.actions, environment.masked)
    env_block = EnvBlock(seed, numbers, reset_every, words)
    if isinstance(environment, ContinuousEnvironment):
        return ContinuousCollector(environment, env_block)
    if isinstance(environment, CompiledEnvironment):
        return CompiledCollector(environment, env_block)
    if environment.vector is None:
        return PythonCollector(environment, env_block)
    # Imports Gymnasium: only where needed.
    from hpcq.collectors.vector import VectorCollector

    return VectorCollector(environment, env_block)
