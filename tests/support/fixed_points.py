"""Tables learned by a rule, and what its fixed point makes of the values of a state."""

import make_job
import numpy as np
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.hashing import unmix64
from hpcq.job.sections import ReplaySection
from hpcq.learning.lockstep import LockstepLearner
from hpcq.table.combine import combine_tables

VISITS = {"schedule": "visits", "exponent": 0.75}


def best(q):
    return q.max(axis=1)


def uniform(q):
    return q.mean(axis=1)


def learned(environment, learning, exploration, ticks, **replay):
    """Return (Q, visits) of all states; Q has the mean of two tables, visits the fewer."""
    job = make_job.make(
        environment,
        learning={"learning_rate": VISITS, **learning},
        exploration=exploration,
    ).model_copy(update={"replay": ReplaySection(**replay)})
    found = resolve(job.environment)
    learner = LockstepLearner(job, found, MPI.COMM_SELF, by_phase)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    states = found.model.start.size
    columns, tables = learner.shard.columns, learner.algorithm.tables
    q, visits = np.zeros((2, states, columns))
    for hashes, values, counts in learner.shard.pieces(states):
        keys = unmix64.py_func(hashes).astype(np.int64)
        q[keys], visits[keys] = values, counts
    split = (states, tables, found.actions)
    q = combine_tables(q.reshape(split), learner.algorithm.combine)
    return found.model, q, visits.reshape(split).min(axis=1)
