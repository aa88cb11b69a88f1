"""A run of a few ticks on this process alone, saved."""

from by_phase import by_phase
from mpi4py import MPI

from hpcq.checkpoint.saving import save
from hpcq.envs.resolve import resolve
from hpcq.learning.lockstep import LockstepLearner


def checkpoint(job, directory, ticks=40):
    """Train a job for some ticks; return the checkpoint."""
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    directory.mkdir(parents=True, exist_ok=True)
    path = save(learner, directory, "gather", keep=100)[0]
    learner.close()
    return path
