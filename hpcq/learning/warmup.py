"""Make every kernel of a job ready before its first tick: compiled, or loaded from the cache."""

import dataclasses
from functools import partial
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from hpcq.collectors import gymnasium_base
from hpcq.collectors.base import Collector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment, all_legal_of
from hpcq.envs.tabular import garnet_environment
from hpcq.exchange import make_exchange, shm_kernels
from hpcq.exchange.base import Exchange
from hpcq.exchange.node_aware import NodeAwareExchange
from hpcq.hashing import FEW, hashes_of, keys_of
from hpcq.job.job import Job
from hpcq.learning.asynchronous import LEAST_IN_PART
from hpcq.learning.evaluation import Evaluator
from hpcq.learning.learner import Learner
from hpcq.learning.modes import learner_class
from hpcq.table.digest import digest_rows


def _stand_in(environment: PythonEnvironment) -> CompiledEnvironment:
    """Return a small compiled environment for which a job has the same kernels."""
    return dataclasses.replace(
        garnet_environment(None, states=1, actions=environment.actions, branching=1),
        self_play=environment.self_play,
        legal=all_legal_of(environment.actions) if environment.masked else None,
    )


def _stepping_apart(kind: Any) -> Any:
    """Return a kind of learner whose ticks call no kernel to step, as in Python; nothing steps."""

    class SteppingApart(kind):
        def _collect(self, *environments: int) -> Collector:
            found: Any = super()._collect(*environments)
            found.step_kernel, found.step = None, lambda tick: None
            return cast(Collector, found)

    return SteppingApart


def _shared_exchange(comm: MPI.Intracomm, *sizes: Any, direct: bool) -> Exchange:
    """Return the exchange of a single rank that has the kernels of several."""
    found = NodeAwareExchange.make(comm, comm, *sizes)
    if found is None:
        return make_exchange(comm, *sizes)
    found.direct = direct
    return found


def warm_up(
    job: Job,
    environment: CompiledEnvironment | PythonEnvironment,
    ranks: int = 1,
    nodes: int = 1,
) -> None:
    """Compile, or load from the cache, every kernel that this job uses, by a tiny run of it.

    A Python environment is not made for this; a small compiled one takes its place.

    Parameters
    ----------
    ranks, nodes
        that the job is to run on.
    """
    hashes_of(keys_of(np.zeros(FEW, np.uint64)))
    kind: Any = learner_class(job)
    if isinstance(environment, PythonEnvironment):
        kind = _stepping_apart(kind)
        gymnasium_base.warm_up(environment)
        environment = _stand_in(environment)
    # The arrays of a single environment among replayed transitions are of another kind.
    few = job.mode.batches * (2 if job.replay.ratio else 1)
    if job.mode.kind == "asynchronous":
        # The kernel of the rounds is one for each number of parts.
        parts = min(job.mode.parts, job.environment.count // ranks // LEAST_IN_PART)
        few = max(few, parts * LEAST_IN_PART)
    agents = 1 if job.mode.kind == "periodic" else None
    tiny = job.model_copy(
        update={
            "environment": job.environment.model_copy(update={"count": few, "vector": None}),
            "mode": job.mode.model_copy(update={"agents": agents}),
        }
    )
    learner: Learner
    if ranks > 1 and job.mode.kind == "lockstep":
        route = partial(_shared_exchange, direct=nodes == 1)
        learner = kind(tiny, environment, MPI.COMM_SELF, route)
    else:
        learner = kind(tiny, environment, MPI.COMM_SELF)
    learner.begin()
    learner.advance()
    learner.advance()
    learner.shard.grow()
    for hashes, q, visits, masks in list(learner.shard.pieces_with_masks(1)):
        digest_rows(hashes, q, visits)
        learner.shard.load(hashes_of(keys_of(hashes)), q, visits, masks)
    if nodes > 1 or (ranks > 1 and job.evaluation.every is not None):
        shm_kernels.warm_up(*learner.algorithm.record_types())
    if job.evaluation.every is not None:
        _warm_up_evaluation(job, environment, learner)
    learner.close()


def _warm_up_evaluation(job: Job, environment: CompiledEnvironment, learner: Learner) -> None:
    section = job.evaluation.model_copy(update={"episodes": 1, "max_steps": 2})
    evaluator = Evaluator(learner.algorithm, environment, section, learner.shard, MPI.COMM_SELF)
    evaluator.evaluate()
    evaluator.close()
