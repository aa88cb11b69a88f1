"""Run a job from its beginning, or go on with one."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpi4py import MPI

from hpcq.checkpoint import restore, saving
from hpcq.checkpoint.reader import read_header, verify
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode, JobError
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.learning.learner import Learner
from hpcq.mpi import agree, first_on_each_node, on_root
from hpcq.run import compiling, preflight, run_directory, tensorboard
from hpcq.run.lock import RunLock
from hpcq.run.loop import Log, Run, Training, last_tick
from hpcq.run.resumable import newest, read_job
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience


def _resolve(job: Job) -> CompiledEnvironment | PythonEnvironment:
    try:
        return resolve(job.environment)
    except JobError as error:
        raise JobError(f"{job.source}: {error}") from error


def _make_learner(job: Job, comm: MPI.Intracomm, watchdog: Watchdog) -> Learner:
    with watchdog.patient(START_SECONDS):
        environment = agree(comm, lambda: _resolve(job))
        with first_on_each_node(comm):
            compiled = compiling.compiled(job, environment)
        agree(comm, compiled)
    # From here on the user's environments are stepped.
    agree(comm, lambda: preflight.check(job, environment, comm.rank, comm.size))
    return agree(comm, lambda: modes.make_learner(job, environment, comm))


def _load_start(learner: Learner, watchdog: Watchdog) -> None:
    """Begin with another run's table, if the job says so. Collective."""
    if learner.job.run.start_from is None:
        return
    named = learner.job.run.start_from
    with watchdog.patient(math.inf):
        source = on_root(learner.comm, lambda: run_directory.checkpoint_of(named))
        header, _ = on_root(learner.comm, lambda: verify(source))
        agree(learner.comm, lambda: restore.check_compatible(learner, header, source))
        restore.load_table(learner, source)


def to_end(training: Training) -> ExitCode:
    """Train without looking at the reports. Collective."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def start(
    job: Job, comm: MPI.Intracomm, log: Log, pending_signals: list[int], overwrite: bool = False
) -> ExitCode:
    """Run a job from the beginning; see `starting`. Collective."""
    return to_end(starting(job, comm, log, pending_signals, overwrite))


def starting(
    job: Job, comm: MPI.Intracomm, log: Log, pending_signals: list[int], overwrite: bool = False
) -> Training:
    """Run a job from the beginning; `pending_signals` fills with stop signals. Collective."""
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    if job.run.tensorboard:
        on_root(comm, tensorboard.check)
    with _guarded(job, comm) as watchdog:
        on_root(comm, lambda: run_directory.check(job.directory, overwrite))
        learner = _make_learner(job, comm, watchdog)
        # The old run goes last: the new one may start from its table, or not start at all.
        _load_start(learner, watchdog)
        on_root(comm, lambda: run_directory.prepare(job.directory, job.text()))
        learner.begin()
        return (yield from Run(learner, None, writer, log, pending_signals, watchdog).training())


def resume(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    override: bool = False,
) -> ExitCode:
    """Go on with a run; see `resuming`. Collective."""
    return to_end(resuming(directory, overrides, comm, log, pending_signals, override))


def resuming(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    override: bool = False,
) -> Training:
    """Go on with the newest checkpoint of a run directory that verifies. Collective."""
    job = on_root(comm, lambda: read_job(directory, overrides, override))
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    if job.run.tensorboard:
        on_root(comm, tensorboard.check)
    with _guarded(job, comm) as watchdog:
        with watchdog.patient(math.inf):
            path, notes = on_root(comm, lambda: newest(directory, job, override))
        for note in notes:
            log(note)
        learner = _make_learner(job, comm, watchdog)
        if path is None:
            log(f"no checkpoint in {directory} yet: starting from the beginning")
            _load_start(learner, watchdog)
        else:
            header = on_root(comm, lambda: read_header(path))
            agree(comm, lambda: restore.check_compatible(learner, header, path))
            nbytes = on_root(comm, lambda: path.stat().st_size)
            with watchdog.patient(START_SECONDS + patience(nbytes)):
                restore.load_run(learner, path)
            _check_length(learner, Job.saved(json.loads(header.job), str(path)))
            log(f"resuming {path} at step {learner.steps:,}")
        on_root(comm, lambda: run_directory.write_job(directory, job.text()))
        if path is None:
            learner.begin()
        return (yield from Run(learner, path, writer, log, pending_signals, watchdog).training())


@contextmanager
def _guarded(job: Job, comm: MPI.Intracomm) -> Iterator[Watchdog]:
    """Hold the run directory, and watch over the ranks. Collective."""
    lock = RunLock(job.directory)
    made = on_root(comm, lambda: run_directory.take(job.directory, lock, job.name))
    try:
        with Watchdog(comm, job.run.stall_timeout, lock.touch) as watchdog:
            yield watchdog
    finally:
        lock.release()
        if made and comm.rank == 0:
            # Of a job that was refused there is nothing to keep; what holds a file stays.
            with suppress(OSError):
                job.directory.rmdir()


def _check_length(learner: Learner, before: Job) -> None:
    """Refuse to make a run shorter than it is; asynchronous runs end a little after their steps."""
    last = last_tick(learner.job, learner.save_every)
    if learner.tick > last and learner.job.run.steps < before.run.steps:
        error = JobError(
            f"run.steps = {learner.job.run.steps:,}, but {learner.steps:,} steps are done; "
            "give more, or leave it out"
        )
        error.collective = True
        raise error
