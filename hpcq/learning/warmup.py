"""Make every kernel of a job ready before its first tick: compiled, or loaded from the cache."""

import dataclasses
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from hpcq.collectors import gymnasium_base
from hpcq.collectors.base import all_legal
from hpcq.envs import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.tabular import garnet_environment
from hpcq.exchange import shm_kernels
from hpcq.hashing import FEW, hashes_of, keys_of
from hpcq.job.job import Job
from hpcq.learning.learner import Learner
from hpcq.table.digest import digest_rows


def _in_place_of(environment: PythonEnvironment) -> CompiledEnvironment:
    """Return a small compiled environment for which a job has the same kernels."""
    return dataclasses.replace(
        garnet_environment(None, states=1, actions=environment.actions, branching=1),
        self_play=environment.self_play,
        legal=all_legal if environment.masked else None,
    )


def warm_up(
    job: Job,
    environment: CompiledEnvironment | PythonEnvironment,
    make: Callable[..., Learner] = Learner,
) -> None:
    """Compile, or load from the cache, every kernel that this job uses, by a learner of its mode.

    A Python environment is not made for this; a small compiled one takes its place.
    """
    hashes_of(keys_of(np.zeros(FEW, np.uint64)))
    if isinstance(environment, PythonEnvironment):
        gymnasium_base.warm_up(environment)
        environment = _in_place_of(environment)
    # The arrays of a single environment among replayed transitions are of another kind.
    few = 2 if job.replay.ratio else 1
    tiny = job.model_copy(
        update={"environment": job.environment.model_copy(update={"count": few, "vector": None})}
    )
    learner = make(tiny, environment, MPI.COMM_SELF)
    learner.begin()
    learner.advance()
    learner.advance()
    learner.shard.grow()
    for hashes, q, visits, masks in list(learner.shard.pieces_with_masks(1)):
        digest_rows(hashes, q, visits)
        learner.shard.load(hashes_of(keys_of(hashes)), q, visits, masks)
    shm_kernels.warm_up(learner.exchange.message, learner.exchange.reply_type)
    learner.close()
