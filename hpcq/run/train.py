"""Run a job from start to end, or go on with one: flags, reports, checkpoints, summary."""

import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import IntFlag
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcq.checkpoint import restore, saving
from hpcq.checkpoint.reader import read_header, verify
from hpcq.envs import PythonEnvironment, resolve
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.errors import CheckpointError, ExitCode, FormatError, JobError
from hpcq.job.files import override
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.learning.evaluation import Evaluation
from hpcq.learning.learner import Learner
from hpcq.parallel import agree, count_nodes, first_on_each_node, on_root
from hpcq.run import preflight, rundir, tensorboard
from hpcq.run.evaluations import Evaluations
from hpcq.run.lock import RunLock
from hpcq.run.metrics import summarise
from hpcq.run.reporter import Reporter
from hpcq.run.room import Room
from hpcq.run.saveplan import SavePlan
from hpcq.run.stopping import Stopping, tick_of
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience

Say = Callable[[str], object]
# Yields a report now and then, the same on all ranks, and returns how the run ended.
Training = Generator[dict[str, Any], None, ExitCode]

MAY_CHANGE = (
    "run.steps",
    "run.report_every",
    "run.stalled_after",
    "run.table_gib",
    "run.tensorboard",
    "checkpoint.",
    "stop.",
)
MAY_OVERRIDE = (
    "environment.kwargs",
    "environment.max_episode_steps",
    "learning.gamma",
    "learning.learning_rate",
    "exploration.epsilon",
    "exploration.temperature",
    "exploration.confidence",
)


class Flag(IntFlag):
    """What a rank can ask of all ranks along with a tick's counts."""

    STOP = 1
    REPORT = 2
    SAVE = 4
    FULL = 8
    TIME = 16


def last_tick(job: Job, quiet_every: int) -> int:
    """Return the tick after which the job is done: whole ticks, whole quiet periods."""
    return tick_of(job.run.steps, job, quiet_every)


def _resolve(job: Job) -> CompiledEnvironment | PythonEnvironment:
    try:
        return resolve(job.environment)
    except JobError as error:
        raise JobError(f"{job.source}: {error}") from error


def _make_learner(job: Job, comm: MPI.Intracomm, watchdog: Watchdog) -> Learner:
    with watchdog.patient(START_SECONDS):
        environment = agree(comm, lambda: _resolve(job))
        with first_on_each_node(comm):
            compiled = preflight.compiled(job, environment)
        agree(comm, compiled)
    # From here on the user's environments are stepped.
    agree(comm, lambda: preflight.check(job, environment, comm.rank, comm.size))
    return agree(comm, lambda: modes.learner(job, environment, comm))


def _load_start(learner: Learner, watchdog: Watchdog) -> None:
    """Begin with another run's table, if the job says so. Collective."""
    source = learner.job.run.start_from
    if source is None:
        return
    with watchdog.patient(math.inf):
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
    job: Job, comm: MPI.Intracomm, say: Say, caught: list[int], overwrite: bool = False
) -> ExitCode:
    """Run a job from the beginning; see `starting`. Collective."""
    return to_end(starting(job, comm, say, caught, overwrite))


def starting(
    job: Job, comm: MPI.Intracomm, say: Say, caught: list[int], overwrite: bool = False
) -> Training:
    """Run a job from the beginning; `caught` fills with stop signals. Collective."""
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    if job.run.tensorboard:
        on_root(comm, tensorboard.check)
    with _guarded(job, comm) as watchdog:
        on_root(comm, lambda: rundir.check(job.directory, overwrite))
        learner = _make_learner(job, comm, watchdog)
        # The old run goes last: the new one may start from its table, or not start at all.
        _load_start(learner, watchdog)
        on_root(comm, lambda: rundir.prepare(job.directory, job.text()))
        learner.begin()
        return (yield from _train(learner, None, writer, say, caught, watchdog))


def resume(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    say: Say,
    caught: list[int],
    override: bool = False,
) -> ExitCode:
    """Go on with a run; see `resuming`. Collective."""
    return to_end(resuming(directory, overrides, comm, say, caught, override))


def resuming(
    directory: Path,
    overrides: tuple[str, ...],
    comm: MPI.Intracomm,
    say: Say,
    caught: list[int],
    override: bool = False,
) -> Training:
    """Go on with the newest checkpoint of a run directory that verifies. Collective."""
    job = on_root(comm, lambda: _read_job(directory, overrides, override))
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    if job.run.tensorboard:
        on_root(comm, tensorboard.check)
    with _guarded(job, comm) as watchdog:
        with watchdog.patient(math.inf):
            path, notes = on_root(comm, lambda: _newest(directory, job, override))
        for note in notes:
            say(note)
        learner = _make_learner(job, comm, watchdog)
        if path is None:
            say(f"no checkpoint in {directory} yet: starting from the beginning")
            _load_start(learner, watchdog)
        else:
            header = on_root(comm, lambda: read_header(path))
            agree(comm, lambda: restore.check_compatible(learner, header, path))
            with watchdog.patient(patience(on_root(comm, lambda: path.stat().st_size))):
                restore.load_run(learner, path)
            _check_length(learner)
            say(f"resuming {path} at step {learner.steps:,}")
        on_root(comm, lambda: rundir.write_job(directory, job.text()))
        if path is None:
            learner.begin()
        return (yield from _train(learner, path, writer, say, caught, watchdog))


@contextmanager
def _guarded(job: Job, comm: MPI.Intracomm) -> Iterator[Watchdog]:
    """Hold the run directory, and watch over the ranks. Collective."""
    lock = RunLock(job.directory)
    on_root(comm, lambda: rundir.take(job.directory, lock, job.name))
    try:
        with Watchdog(comm, job.run.stalled_after, lock.touch) as watchdog:
            yield watchdog
    finally:
        lock.release()


def _check_length(learner: Learner) -> None:
    last = last_tick(learner.job, learner.quiet_every)
    if learner.tick > last:
        error = JobError(
            f"run.steps = {learner.job.run.steps:,}, but {learner.steps:,} steps are done; "
            "give more, or leave it out"
        )
        error.collective = True
        raise error


def _read_job(directory: Path, overrides: tuple[str, ...], anew: bool) -> Job:
    """Return the job of a run directory. The file job.json decides, never a checkpoint.

    Parameters
    ----------
    anew
        whether the job may learn in another way from here on: `--override`.
    """
    for assignment in overrides:
        if not assignment.startswith(MAY_CHANGE + (MAY_OVERRIDE if anew else ())):
            raise JobError(
                f"--set {assignment}: a resumed run keeps its job, but for run.steps, "
                "run.report_every, run.stalled_after, run.table_gib, run.tensorboard, "
                "checkpoint.* and stop.*"
                + ("" if anew else f", and with --override {', '.join(MAY_OVERRIDE)}")
                + "; to change more, start a new run from this "
                "table with --set run.start_from=CHECKPOINT and another run.directory"
            )
    path = directory / rundir.JOB
    if not path.exists():
        raise CheckpointError(
            f"{directory} holds no run (no {rundir.JOB}); expected a run directory, such as "
            "runs/NAME of an earlier `hpcq run`; to use the table of a checkpoint, "
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


def _newest(directory: Path, job: Job, anew: bool) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint (None before the first), and what to tell of it.

    A damaged file is renamed, so that it counts no longer among those to keep.
    """
    notes: list[str] = []
    for path in rundir.list_checkpoints(directory):
        try:
            header, _ = verify(path)
        except FormatError:
            raise
        except CheckpointError as error:
            notes.append(f"skipped {error}; renamed to {rundir.set_aside(path).name}")
            continue
        differences = job.differences(Job.check(json.loads(header.job), str(path)))
        refused = [key for key in differences if not (anew and key in MAY_OVERRIDE)]
        if refused:
            raise CheckpointError(
                f"{path} was written by another job: "
                + "; ".join(differences[key] for key in refused)
                + (
                    "\nto go on in spite of this, add --override"
                    if not anew and set(refused) <= set(MAY_OVERRIDE)
                    else ""
                )
            )
        notes += [f"overridden: {text}" for text in differences.values()]
        return path, notes
    if notes:
        raise CheckpointError(f"{directory}: no checkpoint is whole:\n" + "\n".join(notes))
    return None, []


def _train(
    learner: Learner,
    path: Path | None,
    writer: str,
    say: Say,
    caught: list[int],
    watchdog: Watchdog,
) -> Training:
    """Tick until the job is done or a stop is asked for. Collective.

    `path` is the checkpoint of the learner's present tick, if there is one.
    """
    job, comm, quiet = learner.job, learner.comm, learner.quiet_every
    last = last_tick(job, quiet)
    if writer == "funnel" and (nodes := count_nodes(comm)) > 1:
        say(
            f"warning: {nodes} nodes save through rank 0 (writer funnel): slow for big tables; "
            "with checkpoint.writer = 'direct' or 'mpio' every rank writes its part"
        )
    title = _title(learner)
    say(f"{title}, {_plan(learner, last, writer)}")
    say(f"job: {job.brief()}; all else as `hpcq reference` says")
    plan = SavePlan(job, quiet, learner.tick)
    room = Room(learner)
    room.check()
    reporter = Reporter(learner, last, learner.steps if path else None, title, say)
    rules, evaluations = Stopping(learner), Evaluations(learner, watchdog.beat)
    if path is not None:
        evaluations.keep(path)
    stopping, ended = Flag(0), rules.look(evaluations.due())
    started, first_step = time.perf_counter(), learner.steps
    while learner.tick < last and not ((stopping or ended) and plan.saved == learner.tick):
        flags = Flag.STOP if caught else Flag(0)
        if room.short():
            flags |= Flag.FULL
        if comm.rank == 0 and reporter.due():
            flags |= Flag.REPORT
        if comm.rank == 0 and plan.time_is_up():
            flags |= Flag.SAVE
        if comm.rank == 0 and rules.time_is_up():
            flags |= Flag.TIME
        agreed = Flag(learner.advance(flags))
        watchdog.beat()
        if agreed & (Flag.STOP | Flag.FULL) and not stopping:
            stopping = agreed
            why = "stop requested" if agreed & Flag.STOP else "the table reaches run.table_gib"
            say(f"{why}: saving in {-learner.tick % quiet} ticks")
        found = evaluations.evaluate()
        ended = ended or rules.look(found is not None)
        if agreed & Flag.TIME:
            ended = ended or rules.why_time()
        wanted = stopping or ended or learner.tick == last or agreed & Flag.SAVE
        if plan.due(learner.tick, bool(wanted or evaluations.best_now)):
            rules.remember()
            nbytes = comm.allreduce(len(learner.shard)) * learner.shard.columns * 16
            with watchdog.patient(patience(nbytes)):
                learner.settle()
                path, _ = saving.save(
                    learner, job.directory, writer, job.checkpoint.keep, plan.milestones
                )
            plan.note(learner.tick)
            reporter.saved = learner.steps
            evaluations.keep(path)
        if agreed & Flag.REPORT or found:
            yield from _tell(reporter, watchdog, found)
    seconds = time.perf_counter() - started
    assert path is not None
    yield from _tell(reporter, watchdog)
    reporter.close()
    digest = learner.digest()
    evaluations.close()
    learner.close()
    if learner.tick < last and not ended:
        if stopping & Flag.FULL:
            say(room.explain())
        say(f"stopped at step {learner.steps:,}; go on with `hpcq resume {job.directory}`")
        comm.Barrier()
        return ExitCode.STOPPED
    if ended:
        say(f"ended by {ended}")
    done = learner.steps - first_step
    clipped = comm.allreduce(learner.collector.clipped)
    with watchdog.patient(START_SECONDS):
        on_root(comm, lambda: summarise(learner, path, digest, done, seconds, clipped, ended, say))
    comm.Barrier()
    return ExitCode.DONE


def _tell(
    reporter: Reporter, watchdog: Watchdog, found: Evaluation | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a report, if there is one, and be patient with who looks at it. Collective."""
    line = reporter.report(found)
    if line is not None:
        with watchdog.patient(math.inf):
            yield line


def _title(learner: Learner) -> str:
    job, environment, ranks = learner.job, learner.environment, learner.comm.size
    kind = "python" if isinstance(environment, PythonEnvironment) else "compiled"
    count = job.environment.count
    return (
        f"{job.name}: {environment.id} ({kind}), {count} environment{'s' * (count != 1)} on "
        f"{ranks} rank{'s' * (ranks != 1)}"
    )


def _plan(learner: Learner, last: int, writer: str) -> str:
    job, share = learner.job, learner.collector.actors.hash.size
    return (
        f"about {max(share, 1)} each, {last * job.environment.count:,} steps, "
        f"run directory {job.directory}, checkpoints by {writer}"
    )
