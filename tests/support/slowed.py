"""Steps a second of every rank, with and without a slow one among them: JSON from rank 0.

``mpirun -n 2 python tests/support/slowed.py [SECONDS]``
"""

import json
import sys
import time

import make_job
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.learning import modes

comm = MPI.COMM_WORLD
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0


def rates(kind, slow):
    """Return the steps a second of every rank."""
    kwargs = {} if slow is None else {"slow": slow}
    environment = {"id": "problems:Slow", "kwargs": kwargs, "count": 64 * comm.size}
    job = make_job.make(environment, mode={"kind": kind})
    learner = modes.make_learner(job, resolve(job.environment), comm)
    learner.begin()
    comm.Barrier()
    start, elapsed, over = time.perf_counter(), 0.0, 0
    while not over:
        elapsed = time.perf_counter() - start
        over = learner.advance(int(elapsed > SECONDS))
    steps = learner.tick * 64 if kind == "lockstep" else learner._own_steps
    learner.quiesce()
    learner.close()
    return comm.allgather(round(steps / elapsed))


found = {
    f"{kind}, {'equal' if slow is None else 'one slow'}": rates(kind, slow)
    for kind in ("lockstep", "asynchronous")
    for slow in (None, comm.size - 1)
}
if comm.rank == 0:
    print(json.dumps(found))
