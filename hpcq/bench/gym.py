"""Python environments through hpcq, beside merely stepping them."""

import time
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcq.bench.tick import measure
from hpcq.collector import block
from hpcq.envs import PythonEnvironment, resolve
from hpcq.errors import JobError
from hpcq.job import Job
from hpcq.learner import Learner, warm
from hpcq.parallel import agree, first_on_each_node


def stepping(
    comm: MPI.Intracomm, environment: PythonEnvironment, count: int, seconds: float
) -> float:
    """Return steps per second of all ranks, stepping their share in a loop. Collective.

    Actions are drawn beforehand; an environment whose episode ends is reset.
    """
    start, share = block(comm.rank, comm.size, count)
    environments = [environment.make() for _ in range(share)]
    for i, env in enumerate(environments):
        env.reset(seed=start + i)
    rng = np.random.default_rng(comm.rank)
    drawn = rng.integers(environment.actions, size=(64, share)) + environment.action_start
    actions = [list(row) for row in drawn]
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 5 or comm.allreduce(time.perf_counter() < end, MPI.LAND):
        comm.Barrier()
        begin = time.perf_counter()
        for row in actions:
            for env, action in zip(environments, row, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
        took = comm.allreduce(time.perf_counter() - begin, MPI.MAX)
        rates.append(len(actions) * count / took)
    for env in environments:
        env.close()
    return float(np.median(rates))


def bench(comm: MPI.Intracomm, id_: str, environments: int, seconds: float) -> dict[str, Any]:
    """Compare hpcq's rate on a Gymnasium environment with that of stepping alone. Collective.

    Raises
    ------
    JobError
        if the environment is unknown or has spaces that hpcq cannot use.
    """
    job = Job.check(
        {
            "name": "gym",
            "environment": {"id": id_, "count": environments, "backend": "python"},
            "learning": {"gamma": 0.99, "learning_rate": 0.1},
            "run": {"steps": 1},
        },
        "bench gym",
    )
    environment = agree(comm, lambda: resolve(job.environment))
    if not isinstance(environment, PythonEnvironment):
        raise JobError(f"{id_} is not stepped in Python")
    with first_on_each_node(comm):
        warm(job, environment)
    alone = stepping(comm, environment, environments, seconds)
    learner = Learner(job, environment, comm)
    learner.begin()
    found = measure(learner, seconds)
    learner.close()
    return {
        "environment": id_,
        "ranks": comm.size,
        "environments": environments,
        "stepping": alone,
        "ratio_to_stepping": found["transitions_per_second"] / alone,
        **found,
    }
