"""Train one job by several routings on the ranks of this mpirun; print what rank 0 finds."""

import json
import sys
from functools import partial

import make_job
from mpi4py import MPI

from hpcq.envs import resolve
from hpcq.exchange import make_exchange
from hpcq.learning.learner import Learner, warm

job = make_job.make({**make_job.GARNET, "count": 40, "max_episode_steps": 9})
comm = MPI.COMM_WORLD
environment = resolve(job.environment)
warm(job, environment)


def train(comm, route=make_exchange):
    learner = Learner(job, environment, comm, route)
    learner.begin()
    for _ in range(30):
        learner.advance()
    found = str(learner.digest()), comm.allreduce(learner.exchange.network_messages(), MPI.MAX)
    learner.close()
    return found


found = {"alone": train(MPI.COMM_SELF), "flat": train(comm, partial(make_exchange, flat=True))}
for size in map(int, sys.argv[1:]):
    node = comm.Split(comm.rank // size, comm.rank)
    found[size] = train(comm, partial(make_exchange, node=node))
    node.Free()
if comm.rank == 0:
    print(json.dumps(found))
