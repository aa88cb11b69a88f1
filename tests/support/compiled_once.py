"""Compile a job's kernels on one rank, before all ranks would at once; collective on the world."""

from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.learning.warmup import warm_up
from hpcq.mpi import first_on_each_node

_done = set()


def compile_once(job, environment=None):
    """Make the kernels for one rank, and for all ranks of the world.

    Parameters
    ----------
    environment
        the job's, as `resolve` returns it.
    """
    name = job.model_dump_json()
    if name in _done:
        return
    _done.add(name)
    found = environment or resolve(job.environment)
    with first_on_each_node(MPI.COMM_WORLD):
        for ranks in sorted({1, MPI.COMM_WORLD.size}):
            warm_up(job, found, ranks)
