"""Tick until a job is done: flags, reports, evaluations, checkpoints, summary."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from enum import IntFlag
from pathlib import Path
from typing import Any

from hpcq.checkpoint import saving
from hpcq.envs import PythonEnvironment
from hpcq.errors import ExitCode
from hpcq.job.job import Job
from hpcq.learning.evaluation import Evaluation
from hpcq.learning.learner import Learner
from hpcq.parallel import count_nodes, on_root
from hpcq.run.evaluations import Evaluations
from hpcq.run.metrics import summarise
from hpcq.run.reporter import Reporter
from hpcq.run.room import Room
from hpcq.run.saveplan import SavePlan
from hpcq.run.stopping import Stopping, tick_of
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience

Say = Callable[[str], object]
# Yields a report now and then, the same on all ranks, and returns how the run ended.
Training = Generator[dict[str, Any], None, ExitCode]


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


def train(
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
            say(f"{why}: saving in {-learner.tick % quiet:,} ticks")
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
