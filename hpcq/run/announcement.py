"""What a run says of itself before its first tick."""

from collections.abc import Callable

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.learning.learner import Learner
from hpcq.mpi import count_nodes

# Compiled environments of a rank whose tick takes as long as it takes two ranks to meet.
LEAST_PER_RANK = 128


def announce(learner: Learner, last: int, writer: str, log: Callable[[str], object]) -> str:
    """Log what is about to be done; return the run's title. Collective.

    Parameters
    ----------
    last
        tick at which the run is done.
    writer
        of checkpoints, from `saving.choose_writer`.
    """
    if writer == "gather" and (nodes := count_nodes(learner.comm)) > 1:
        log(
            f"warning: {nodes} nodes save through rank 0 (writer gather): slow for big tables; "
            "with checkpoint.writer = 'direct' or 'mpio' every rank writes its part"
        )
    title = _title(learner)
    log(f"{title}, {_plan(learner, last, writer)}")
    if note := _size_note(learner):
        log(note)
    log(f"job: {learner.job.brief()}; all else as `hpcq reference` says")
    return title


def _size_note(learner: Learner) -> str:
    """Return a hint where ranks meet more often than it pays; an empty text elsewhere."""
    job, ranks = learner.job, learner.comm.size
    lockstep = job.mode.kind == "lockstep" and isinstance(learner.environment, CompiledEnvironment)
    if not lockstep or ranks == 1 or job.environment.count >= ranks * LEAST_PER_RANK:
        return ""
    return (
        f"note: {job.environment.count // ranks} environments a rank step faster than ranks meet: "
        f"take fewer ranks, or environment.count = {ranks * LEAST_PER_RANK} or more"
    )


def _title(learner: Learner) -> str:
    job, environment, ranks = learner.job, learner.environment, learner.comm.size
    kind = "python" if isinstance(environment, PythonEnvironment) else "compiled"
    count = job.environment.count
    return (
        f"{job.name}: {environment.id} ({kind}), {count} environment{'s' * (count != 1)} on "
        f"{ranks} rank{'s' * (ranks != 1)}"
    )


def _plan(learner: Learner, last: int, writer: str) -> str:
    job, share = learner.job, learner.count
    steps, rounded = last * job.environment.count, ""
    if steps - job.run.steps >= job.environment.count:
        rounded = f" (run.steps = {job.run.steps:,}, up to a reset tick)"
    idle = learner.comm.size - job.environment.count // (job.environment.vector or 1)
    each = f"none on {idle} of them" if idle > 0 else f"about {max(share, 1)} each"
    return (
        f"{each}, {steps:,} steps{rounded}, run directory {job.shown(job.directory)}, "
        f"checkpoints by {writer}"
    )
