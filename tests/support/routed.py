"""Train jobs by several routings on the ranks of this mpirun; print what rank 0 finds.

One without and one with td_error acknowledgements.
"""

import json
import sys
from functools import partial

import make_job
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.exchange import make_exchange
from hpcq.job.sections import ReplaySection
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.warmup import warm_up

job = make_job.make({**make_job.GARNET, "count": 40, "max_episode_steps": 9})
replayed = job.model_copy(
    update={"replay": ReplaySection(ratio=2, capacity=800, sampling="prioritised")}
)
comm = MPI.COMM_WORLD
environment = resolve(job.environment)
for each in (job, replayed):
    warm_up(each, environment)


def train(comm, route=make_exchange):
    digests = []
    for each in (job, replayed):
        learner = LockstepLearner(each, environment, comm, route)
        learner.begin()
        for _ in range(30):
            learner.advance()
        digests.append(str(learner.digest()))
        messages = comm.allreduce(learner.traffic()[0], MPI.MAX)
        learner.close()
    return digests, messages


found = {"alone": train(MPI.COMM_SELF), "flat": train(comm, partial(make_exchange, flat=True))}
for size in map(int, sys.argv[1:]):
    node = comm.Split(comm.rank // size, comm.rank)
    found[size] = train(comm, partial(make_exchange, node=node))
    node.Free()
if comm.rank == 0:
    print(json.dumps(found))
