"""The modes of learning: one learner for each, chosen by the job."""

from mpi4py import MPI

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.job.job import Job
from hpcq.learning.asynchronous import AsynchronousLearner
from hpcq.learning.learner import Learner
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.periodic import PeriodicLearner

_LEARNERS: dict[str, type[Learner]] = {
    "lockstep": LockstepLearner,
    "periodic": PeriodicLearner,
    "asynchronous": AsynchronousLearner,
}


def learner_class(job: Job) -> type[Learner]:
    """Return what learns in the job's mode."""
    return _LEARNERS[job.mode.kind]


def make_learner(
    job: Job, environment: CompiledEnvironment | PythonEnvironment, comm: MPI.Intracomm
) -> Learner:
    """Return the learner of the job's mode. Collective."""
    return learner_class(job)(job, environment, comm)
