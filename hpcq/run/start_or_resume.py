"""Start a job, or resume its run: the learner, its checkpoint, and the run directory."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpi4py import MPI

from hpcq.checkpoint import restore, sandbox, saving
from hpcq.checkpoint.files import locate
from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.snapshot import check_header
from hpcq.checkpoint.verification import verify_together
from hpcq.collectors.centring import RATE
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, ExitCode, JobError
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.learning.learner import Learner
from hpcq.mpi import agree, count_nodes, first_on_each_node, on_root, patient
from hpcq.run import compiling, preflight, run_directory, snapshots, stored_job, tensorboard
from hpcq.run.lock import RunLock
from hpcq.run.loop import Log, Run, Training, last_tick
from hpcq.run.newest_checkpoint import newest
from hpcq.run.processes import ENDED_AT
from hpcq.run.resumable import changes_of, holds_run_of, read_job, uncounted
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience


def train(
    job: Job,
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    overwrite: bool = False,
    resume: bool = False,
) -> Training:
    """Train a job from its beginning. Collective.

    Parameters
    ----------
    log
        prints a line.
    pending_signals
        fills with stop signals.
    overwrite
        replace the run that the directory holds; without it that is an error.
    resume
        go on with it, if it is this job's. What a resumed run may change follows the job.
    """
    comm = patient(comm)
    if resume and on_root(comm, lambda: holds_run_of(job)):
        return resume_run(job.directory, changes_of(job), comm, log, pending_signals)
    return _train(job, comm, log, pending_signals, overwrite=overwrite)


def resume_run(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    override: bool = False,
) -> Training:
    """Go on with the newest checkpoint of a run directory that verifies. Collective.

    Parameters
    ----------
    overrides
        changes of its job, as ``section.key=value``.
    override
        let the job learn in another way from here on.
    """
    comm = patient(comm)
    job = on_root(comm, lambda: read_job(directory, overrides, override, log))
    return _train(job, comm, log, pending_signals, resumed=True, override=override)


def to_end(training: Training) -> ExitCode:
    """Train without looking at the reports. Collective."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def _train(
    job: Job,
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    overwrite: bool = False,
    resumed: bool = False,
    override: bool = False,
) -> Training:
    # From here on paths are absolute: an environment may leave the working folder.
    job = job.placed(on_root(comm, Path.cwd))
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    if job.run.tensorboard:
        on_root(comm, tensorboard.check)
    with locked(job, comm) as (lock, watchdog):
        path = None
        if resumed:
            with watchdog.patient(math.inf):
                in_memory = snapshots.seen_by_all(comm, job.directory, log)
                path, notes = newest(comm, job, override, in_memory)
            if override:
                # A node that is not at hand may have a newer checkpoint, of the job as it was.
                snapshots.forget(comm, job.directory)
            for note in notes:
                log(note)
        else:
            on_root(comm, lambda: run_directory.check(job.directory, overwrite))
            snapshots.forget(comm, job.directory)
        job = _settled(job, path, comm)
        learner = _make_learner(job, comm, watchdog)
        try:
            if path is not None:
                _load_run(learner, path, watchdog)
                log(f"resuming {job.shown(path)} at step {learner.steps:,}")
                if learner.progress.cuts:
                    log(_cuts_note(learner))
            else:
                _load_start(learner, watchdog, log)
            # What an old run left goes last: the new one may start from its table, or be refused.
            keep = stored_job.write if resumed else run_directory.prepare
            on_root(comm, lambda: keep(job.directory, job.text()))
            if path is None:
                learner.begin()
            run = Run(learner, path, writer, log, pending_signals, watchdog, lock)
            if ended := os.environ.get(ENDED_AT):
                log(f"learning again {time.time() - float(ended):.1f} s after the ranks had ended")
            return (yield from run.training())
        finally:
            learner.abandon()


def _settled(job: Job, path: Path | None, comm: MPI.Intracomm) -> Job:
    """Return the job with the agents of its first start. Collective."""
    if path is None:
        return job.settled(comm.size)
    # Runs that began before a job had agents had one on each rank.
    return job.settled(on_root(comm, lambda: read_header(path)).ranks)


@contextmanager
def locked(job: Job, comm: MPI.Intracomm) -> Iterator[tuple[RunLock, Watchdog]]:
    """Hold the lock of the run directory, and run the watchdog. Collective."""
    lock = RunLock(job.directory)
    made = on_root(comm, lambda: run_directory.take(job.directory, lock, job.name))
    try:
        with Watchdog(comm, job.run.stall_timeout, lock.touch) as watchdog:
            yield lock, watchdog
    finally:
        lock.release()
        if made and comm.rank == 0:
            # A job that was refused leaves no directory; one that holds a file stays.
            with suppress(OSError):
                job.directory.rmdir()


def resolve_environment(job: Job) -> CompiledEnvironment | PythonEnvironment:
    """Return the environment of a job; an error names the job file."""
    try:
        return resolve(job.environment)
    except JobError as error:
        raise JobError(f"{job.source}: {error}") from error


def _make_learner(job: Job, comm: MPI.Intracomm, watchdog: Watchdog) -> Learner:
    with watchdog.patient(START_SECONDS):
        agree(comm, compiling.check_compiler)
        environment = agree(comm, lambda: resolve_environment(job))
        nodes = count_nodes(comm)
        with first_on_each_node(comm):
            compiled = compiling.compiled(job, environment, comm.size, nodes)
        agree(comm, compiled)
    # From here on the user's environments are stepped.
    agree(comm, lambda: preflight.check(job, environment, comm.rank, comm.size))
    learner = agree(comm, lambda: modes.make_learner(job, environment, comm))
    agree(comm, lambda: check_header(learner))
    return learner


def _load_start(learner: Learner, watchdog: Watchdog, log: Log) -> None:
    """Begin with another run's table, if the job says so. Collective."""
    if learner.job.run.start_from is None:
        return
    named = learner.job.run.start_from
    with watchdog.patient(math.inf):
        source, found = on_root(learner.comm, lambda: locate(learner.job.path(named)))
        found = found or on_root(learner.comm, lambda: sandbox.describe(source))
        header, _ = verify_together(learner.comm, source, found)
        agree(learner.comm, lambda: restore.check_compatible(learner, header, source))
        restore.load_table(learner, source)
        if header.reward_rate:
            # The values are relative to it.
            learner.progress.reward_rate = learner.centre.numbers[RATE] = header.reward_rate
    if warning := uncounted(header, learner.job):
        log(warning)


def _load_run(learner: Learner, path: Path, watchdog: Watchdog) -> None:
    """Bring the learner to where the checkpoint was written. Collective."""
    comm = learner.comm
    header = on_root(comm, lambda: read_header(path))
    if header.solution:
        raise CheckpointError(
            f"{path} is an exact solution, not a run: go on with `hpcq solve JOB --resume`; to "
            "learn from its table, start a run with --set run.start_from=CHECKPOINT"
        ).on_all_ranks()
    agree(comm, lambda: restore.check_compatible(learner, header, path))
    nbytes = on_root(comm, lambda: path.stat().st_size)
    with watchdog.patient(START_SECONDS + patience(nbytes)):
        restore.load_run(learner, path)
    before = Job.saved(json.loads(header.job), str(path))
    agree(comm, lambda: _check_length(learner, before))


def _cuts_note(learner: Learner) -> str:
    """Return what a run no longer promises whose episodes were cut between reset ticks."""
    steps = [tick * learner.job.environment.count for tick in learner.progress.cuts]
    shown = ", ".join(f"{step:,}" for step in steps[-3:][::-1])
    return (
        f"note: {len(steps)} stop{'s' * (len(steps) != 1)} cut its episodes (newest at step "
        f"{shown}): it ends in another table than without; run.cut_episodes = false avoids that"
    )


def _check_length(learner: Learner, before: Job) -> None:
    """Refuse to make a run shorter than it is; asynchronous runs end a little after their steps."""
    last = last_tick(learner)
    if learner.tick > last and learner.job.run.steps < before.run.steps:
        raise JobError(
            f"run.steps = {learner.job.run.steps:,}, but {learner.steps:,} steps are done; "
            "give more, or leave it out"
        )
