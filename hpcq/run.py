"""Run a job from start to end, or go on with one: flags, reports, checkpoints, summary."""

import json
import time
from collections.abc import Callable
from enum import IntFlag
from pathlib import Path

from mpi4py import MPI

from hpcq import checkpoint, preflight, restore, rundir
from hpcq.envs import PythonEnvironment, resolve
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.errors import CheckpointError, ExitCode, JobError
from hpcq.job import Job, override
from hpcq.learner import Learner
from hpcq.metrics import Reporter, summarise
from hpcq.parallel import agree, first_on_each_node, on_root
from hpcq.reader import read_header, verify

Say = Callable[[str], None]

MAY_CHANGE = ("run.steps", "run.report_every", "checkpoint.")


class Flag(IntFlag):
    """What a rank can ask of all ranks along with a tick's counts."""

    STOP = 1
    REPORT = 2


def last_tick(job: Job, quiet_every: int) -> int:
    """Return the tick after which the job is done: whole ticks, whole quiet periods."""
    ticks = -(-job.run.steps // job.environment.count)
    return -(-ticks // quiet_every) * quiet_every


def _resolve(job: Job) -> CompiledEnvironment | PythonEnvironment:
    try:
        return resolve(job.environment)
    except JobError as error:
        raise JobError(f"{job.source}: {error}") from error


def _make_learner(job: Job, comm: MPI.Intracomm) -> Learner:
    environment = agree(comm, lambda: _resolve(job))
    with first_on_each_node(comm):
        compiled = preflight.compiled(job, environment)
    agree(comm, compiled)
    agree(comm, lambda: preflight.check(job, environment, comm.rank, comm.size))
    return agree(comm, lambda: Learner(job, environment, comm))


def _load_start(learner: Learner) -> None:
    """Begin with another run's table, if the job says so. Collective."""
    source = learner.job.run.start_from
    if source is not None:
        header, _ = on_root(learner.comm, lambda: verify(source))
        agree(learner.comm, lambda: restore.check_compatible(learner, header, source))
        agree(learner.comm, lambda: restore.load_table(learner, source))


def start(
    job: Job, comm: MPI.Intracomm, say: Say, caught: list[int], overwrite: bool = False
) -> ExitCode:
    """Run a job from the beginning; `caught` fills with stop signals. Collective."""
    writer = agree(comm, lambda: checkpoint.choose_writer(job.checkpoint.writer))
    on_root(comm, lambda: rundir.check(job.directory, overwrite))
    learner = _make_learner(job, comm)
    # The old run goes last: the new one may start from its table, or not start at all.
    _load_start(learner)
    on_root(comm, lambda: rundir.prepare(job.directory, job.text()))
    learner.begin()
    return _train(learner, None, writer, say, caught)


def resume(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    say: Say,
    caught: list[int],
) -> ExitCode:
    """Go on with the newest checkpoint of a run directory that verifies. Collective."""
    job = on_root(comm, lambda: _read_job(directory, overrides))
    path, skipped = on_root(comm, lambda: _newest(directory, job))
    for problem in skipped:
        say(f"skipped {problem}")
    writer = agree(comm, lambda: checkpoint.choose_writer(job.checkpoint.writer))
    learner = _make_learner(job, comm)
    if path is None:
        say(f"no checkpoint in {directory} yet: starting from the beginning")
        _load_start(learner)
    else:
        header = on_root(comm, lambda: read_header(path))
        agree(comm, lambda: restore.check_compatible(learner, header, path))
        agree(comm, lambda: restore.load_run(learner, path))
        _check_length(learner)
        say(f"resuming {path} at step {learner.steps:,}")
    on_root(comm, lambda: rundir.write_job(directory, job.text()))
    if path is None:
        learner.begin()
    return _train(learner, path, writer, say, caught)


def _check_length(learner: Learner) -> None:
    last = last_tick(learner.job, learner.collector.quiet_every)
    if learner.tick > last:
        error = JobError(
            f"run.steps = {learner.job.run.steps:,}, but {learner.steps:,} steps are done; "
            "give more, or leave it out"
        )
        error.collective = True
        raise error


def _read_job(directory: Path, overrides: tuple[str, ...]) -> Job:
    """Return the job of a run directory. The file job.json decides, never a checkpoint."""
    for assignment in overrides:
        if not assignment.startswith(MAY_CHANGE):
            raise JobError(
                f"--set {assignment}: a resumed run keeps its job, but for run.steps, "
                "run.report_every and checkpoint.*; to change more, start a new run from this "
                "table with --set run.start_from=CHECKPOINT and another run.directory"
            )
    path = directory / rundir.JOB
    if not path.exists():
        raise CheckpointError(
            f"{directory} holds no run (no {rundir.JOB}); to use the table of a checkpoint, "
            "start a run with --set run.start_from=CHECKPOINT"
        )
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("run"), dict):
        raise CheckpointError(f"{path}: not a job")
    override(data, overrides)
    data["run"]["directory"] = str(directory)
    return Job.check(data, str(path))


def _newest(directory: Path, job: Job) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint (None before the first), and what was skipped.

    A damaged file is renamed, so that it counts no longer among those to keep.
    """
    skipped = []
    for path in rundir.list_checkpoints(directory):
        try:
            header, _ = verify(path)
        except CheckpointError as error:
            skipped.append(f"{error}; renamed to {rundir.set_aside(path).name}")
            continue
        difference = job.differs_in(Job.check(json.loads(header.job), str(path)))
        if difference:
            raise CheckpointError(f"{path} was written by another job: {difference}")
        return path, skipped
    if skipped:
        raise CheckpointError(f"{directory}: no checkpoint is whole:\n" + "\n".join(skipped))
    return None, []


def _train(
    learner: Learner, path: Path | None, writer: str, say: Say, caught: list[int]
) -> ExitCode:
    """Tick until the job is done or a stop is asked for. Collective.

    `path` is the checkpoint of the learner's present tick, if there is one.
    """
    job, comm, quiet = learner.job, learner.comm, learner.collector.quiet_every
    last = last_tick(job, quiet)
    say(_plan(learner, last, writer))
    reporter = Reporter(learner, last, say)
    saved_tick, stopping = learner.tick, False
    started, first_step = time.perf_counter(), learner.steps
    while learner.tick < last and not (stopping and saved_tick == learner.tick):
        flags = Flag.STOP if caught else 0
        if comm.rank == 0 and reporter.due():
            flags |= Flag.REPORT
        agreed = learner.advance(flags)
        if agreed & Flag.REPORT:
            reporter.report()
        if agreed & Flag.STOP and not stopping:
            stopping = True
            say(f"stop requested: saving in {-learner.tick % quiet} ticks")
        if learner.tick % quiet == 0 and (
            stopping or learner.tick == last or learner.tick - saved_tick >= job.checkpoint.every
        ):
            path = checkpoint.save(learner, job.directory, writer, job.checkpoint.keep)[0]
            saved_tick = learner.tick
    seconds = time.perf_counter() - started
    assert path is not None
    digest = learner.digest()
    learner.close()
    if learner.tick < last:
        say(f"stopped at step {learner.steps:,}; go on with `hpcq resume {job.directory}`")
        comm.Barrier()
        return ExitCode.STOPPED
    reporter.report()
    done = learner.steps - first_step
    clipped = comm.allreduce(learner.collector.clipped)
    on_root(comm, lambda: summarise(learner, path, digest, done, seconds, clipped, say))
    comm.Barrier()
    return ExitCode.DONE


def _plan(learner: Learner, last: int, writer: str) -> str:
    job, environment, ranks = learner.job, learner.environment, learner.comm.size
    kind = "python" if isinstance(environment, PythonEnvironment) else "compiled"
    count = job.environment.count
    share = learner.collector.actors.size
    return (
        f"{job.name}: {environment.id} ({kind}), {count} environment{'s' * (count != 1)} on "
        f"{ranks} rank{'s' * (ranks != 1)} (about {max(share, 1)} each), "
        f"{last * count:,} steps, run directory {job.directory}, checkpoints by {writer}"
    )
