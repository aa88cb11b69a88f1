"""The collector that fits an environment."""

import numpy as np

from hpcq.collectors.collector import Collector, CompiledCollector, Share
from hpcq.collectors.continuous import ContinuousCollector
from hpcq.collectors.python import PythonCollector
from hpcq.envs import PythonEnvironment
from hpcq.envs.compiled import CompiledEnvironment, ContinuousEnvironment


def make_collector(
    environment: CompiledEnvironment | PythonEnvironment,
    seed: np.uint64,
    start: int,
    count: int,
    quiet_every: int,
) -> Collector:
    """Return what steps the environments `start` ... `start + count - 1`.

    Parameters
    ----------
    environment
        from `envs.resolve`.
    seed
        a `hashing.seed_word`.
    quiet_every
        ticks between quiet ticks, for environments that need them.
    """
    share = Share(seed, start, count, quiet_every)
    if isinstance(environment, ContinuousEnvironment):
        return ContinuousCollector(environment, share)
    if isinstance(environment, CompiledEnvironment):
        return CompiledCollector(environment, share)
    if environment.vector is None:
        return PythonCollector(environment, share)
    # It imports Gymnasium.
    from hpcq.collectors.vector import VectorCollector

    return VectorCollector(environment, share)
