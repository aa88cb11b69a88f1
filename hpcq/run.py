"""Run a job from start to end, or go on with one: signals, reports, checkpoints, summary."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntFlag
from pathlib import Path
from types import FrameType

from mpi4py import MPI

from hpcq import checkpoint, restore, rundir
from hpcq.collector import block
from hpcq.digest import Digest
from hpcq.envs import PythonEnvironment, resolve
from hpcq.errors import CheckpointError, ExitCode, JobError
from hpcq.job import Job, override
from hpcq.learner import Learner, warm
from hpcq.metrics import Reporter, summarise
from hpcq.parallel import agree, first_on_each_node, on_root
from hpcq.reader import verify

Say = Callable[[str], None]


class Flag(IntFlag):
    """What a rank can ask of all ranks along with a tick's counts."""

    STOP = 1
    REPORT = 2


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect USR1, TERM and INT in a list; a second INT interrupts as usual."""
    caught: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield caught
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def last_tick(job: Job, quiet_every: int) -> int:
    """Return the tick after which the job is done: whole ticks, whole quiet periods."""
    ticks = -(-job.run.steps // job.environment.count)
    return -(-ticks // quiet_every) * quiet_every


def _make_learner(job: Job, comm: MPI.Intracomm) -> Learner:
    environment = agree(comm, lambda: resolve(job.environment))
    with first_on_each_node(comm):
        warm(job, environment)
    return agree(comm, lambda: Learner(job, environment, comm))


def start(job: Job, comm: MPI.Intracomm, say: Say, overwrite: bool = False) -> ExitCode:
    """Run a job from the beginning. Collective."""
    writer = agree(comm, lambda: checkpoint.choose_writer(job.checkpoint.writer))
    learner = _make_learner(job, comm)
    on_root(comm, lambda: rundir.prepare(job.directory, job.text(), overwrite))
    source = job.run.start_from
    if source is not None:
        header, _ = on_root(comm, lambda: verify(source))
        agree(comm, lambda: restore.check_compatible(learner, header, source))
        agree(comm, lambda: restore.load_table(learner, source))
    learner.begin()
    return _train(learner, writer, say)


def resume(directory: Path, overrides: tuple[str, ...], comm: MPI.Intracomm, say: Say) -> ExitCode:
    """Go on with the newest checkpoint of a run directory that verifies. Collective."""
    job, path, skipped = on_root(comm, lambda: _find(directory, overrides))
    for problem in skipped:
        say(f"skipped {problem}")
    writer = agree(comm, lambda: checkpoint.choose_writer(job.checkpoint.writer))
    learner = _make_learner(job, comm)
    if path is None:
        say(f"no checkpoint in {directory} yet: starting from the beginning")
        learner.begin()
    else:
        agree(comm, lambda: restore.load_run(learner, path))
        say(f"resuming {path} at step {learner.steps:,}")
    return _train(learner, writer, say)


def _find(directory: Path, overrides: tuple[str, ...]) -> tuple[Job, Path | None, list[str]]:
    """Return the job, its newest good checkpoint (None if there is none yet), and what was bad."""
    skipped = []
    if not (directory / rundir.JOB).exists():
        raise CheckpointError(f"{directory} holds no run (no {rundir.JOB}); see `hpcq run --help`")
    found = rundir.list_checkpoints(directory)
    for path in found:
        try:
            header, _ = verify(path)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        return _job_of(json.loads(header.job), directory, overrides), path, skipped
    if found:
        raise CheckpointError(f"{directory}: no checkpoint is whole:\n" + "\n".join(skipped))
    try:
        data = json.loads((directory / rundir.JOB).read_text())
    except ValueError as error:
        raise CheckpointError(f"{directory / rundir.JOB}: not valid JSON: {error}") from None
    return _job_of(data, directory, overrides), None, skipped


MAY_CHANGE = ("run.steps", "run.report_every", "checkpoint.")


def _job_of(data: dict, directory: Path, overrides: tuple[str, ...]) -> Job:
    for assignment in overrides:
        if not assignment.startswith(MAY_CHANGE):
            raise JobError(
                f"--set {assignment}: a resumed run keeps its job, but for run.steps, "
                "run.report_every and checkpoint.*; to change more, start a new run from this "
                "table with --set run.start_from=CHECKPOINT"
            )
    override(data, overrides)
    data["run"]["directory"] = str(directory)
    return Job.check(data, str(directory))


def _train(learner: Learner, writer: str, say: Say) -> ExitCode:
    """Tick until the job is done or a stop is asked for. Collective."""
    job, comm, quiet = learner.job, learner.comm, learner.collector.quiet_every
    last = last_tick(job, quiet)
    say(_plan(learner, last, writer))
    reporter = Reporter(learner, last, say)
    saved_tick, stopping = learner.tick, False
    path: Path | None = None
    digest = Digest()
    started, first_step = time.perf_counter(), learner.steps
    with _stop_signals() as caught:
        while learner.tick < last and not (stopping and path is not None):
            flags = Flag.STOP if caught else 0
            if comm.rank == 0 and reporter.due():
                flags |= Flag.REPORT
            agreed = learner.advance(flags)
            if agreed & Flag.REPORT:
                reporter.report()
            if agreed & Flag.STOP and not stopping:
                stopping, path = True, None
                say("stop requested: saving at the next tick where that is possible")
            if learner.tick % quiet == 0 and (
                stopping
                or learner.tick == last
                or learner.tick - saved_tick >= job.checkpoint.every
            ):
                path, digest = checkpoint.save(learner, job.directory, writer, job.checkpoint.keep)
                saved_tick = learner.tick
    seconds = time.perf_counter() - started
    if path is None:
        path, digest = checkpoint.save(learner, job.directory, writer, job.checkpoint.keep)
    learner.close()
    if learner.tick < last:
        say(f"stopped at step {learner.steps:,}; go on with `hpcq resume {job.directory}`")
        comm.Barrier()
        return ExitCode.STOPPED
    reporter.report()
    done = learner.steps - first_step
    on_root(comm, lambda: summarise(learner, path, digest, done, seconds, say))
    comm.Barrier()
    return ExitCode.DONE


def _plan(learner: Learner, last: int, writer: str) -> str:
    job, environment = learner.job, learner.environment
    kind = "python" if isinstance(environment, PythonEnvironment) else "compiled"
    count = job.environment.count
    share = block(0, learner.comm.size, count)[1]
    return (
        f"{job.name}: {environment.id} ({kind}), {count} environments on {learner.comm.size} "
        f"rank{'s' * (learner.comm.size > 1)} (about {max(share, 1)} each), "
        f"{last * count:,} steps, run directory {job.directory}, checkpoints by {writer}"
    )
