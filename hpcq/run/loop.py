"""Tick until a job is done: flags, reports, evaluations, checkpoints, summary."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from hpcq.checkpoint import saving
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import ExitCode
from hpcq.job.job import Job
from hpcq.learning.evaluation import Evaluation
from hpcq.learning.learner import Learner
from hpcq.mpi import count_nodes, on_root
from hpcq.run.checkpoint_schedule import CheckpointSchedule
from hpcq.run.evaluation_schedule import EvaluationSchedule
from hpcq.run.lock import RunLock
from hpcq.run.memory_limit import MemoryLimit
from hpcq.run.reporter import Reporter
from hpcq.run.stopping import Stopping, next_multiple, tick_of
from hpcq.run.summary import summarise
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience

Log = Callable[[str], object]
# Compiled environments of a rank whose tick takes as long as it takes two ranks to meet.
LEAST_PER_RANK = 128

# Yields reports, the same on all ranks; returns how the run ended.
Training = Generator[dict[str, Any], None, ExitCode]


class Flag:
    """Requests of a rank to all ranks, sent with a tick's counts and or-ed.

    Plain integers: they are tested in every tick, where IntFlag operations would dominate.
    """

    STOP = 1
    REPORT = 2
    SAVE = 4
    FULL = 8
    TIME = 16


def last_tick(job: Job, save_every: int) -> int:
    """Return the tick after which the job is done, rounded up to one at which it can be saved."""
    return tick_of(job.run.steps, job, save_every)


class Run:
    """What a rank does between the ticks of a run: agree on flags, evaluate, save, report.

    All methods are collective, but for `_requests`.

    Parameters
    ----------
    path
        the checkpoint of the learner's present tick, if there is one.
    pending_signals
        fills with stop signals.
    """

    def __init__(
        self,
        learner: Learner,
        path: Path | None,
        writer: str,
        log: Log,
        pending_signals: list[int],
        watchdog: Watchdog,
        lock: RunLock,
    ) -> None:
        self.learner, self.path, self.writer, self.lock = learner, path, writer, lock
        self.log, self.pending_signals, self.watchdog = log, pending_signals, watchdog
        watchdog.stepping = lambda: learner.stepping
        job, save_every = learner.job, learner.save_every
        self.last = last_tick(job, save_every)
        title = _title(learner)
        self._announce(title)
        self.schedule = CheckpointSchedule(job, save_every, learner.tick)
        self.memory = MemoryLimit(learner)
        self.memory.check()
        self.reporter = Reporter(learner, self.last, learner.steps if path else None, title, log)
        self.stopping = Stopping(learner)
        self.evaluations = EvaluationSchedule(learner, watchdog.beat)
        if path is not None:
            self.evaluations.keep(path)
        self.stop_flags = 0
        """flags that stop the run early"""
        self.ended_by = self.stopping.recheck()
        self.started, self.seconds, self.first_step = time.perf_counter(), 0.0, learner.steps

    def _announce(self, title: str) -> None:
        learner = self.learner
        if self.writer == "gather" and (nodes := count_nodes(learner.comm)) > 1:
            self.log(
                f"warning: {nodes} nodes save through rank 0 (writer gather): slow for big tables; "
                "with checkpoint.writer = 'direct' or 'mpio' every rank writes its part"
            )
        self.log(f"{title}, {_plan(learner, self.last, self.writer)}")
        if note := _size_note(learner):
            self.log(note)
        self.log(f"job: {learner.job.brief()}; all else as `hpcq reference` says")

    def training(self) -> Training:
        """Tick until the job is done or a stop is requested."""
        yield from self._ticks()
        return self._end()

    def _ticks(self) -> Iterator[dict[str, Any]]:
        """Tick until the run is over and saved; yield reports."""
        learner, evaluations = self.learner, self.evaluations
        while learner.tick < self.last and not (
            (self.stop_flags or self.ended_by) and self.schedule.saved == learner.tick
        ):
            agreed = learner.advance(
                self._requests(), self._next_stop(), self.memory.most_rows, Flag.FULL
            )
            self.watchdog.beat()
            if agreed & (Flag.STOP | Flag.FULL) and not self.stop_flags:
                self._stop(agreed)
            found = evaluations.evaluate()
            self.ended_by = self.ended_by or self.stopping.check(found is not None)
            if agreed & Flag.TIME:
                self.ended_by = self.ended_by or self.stopping.time_text()
            # A round of asynchronous mode can be worth several ticks.
            over = self.stop_flags or self.ended_by or learner.tick >= self.last
            wanted = over or agreed & Flag.SAVE
            if self.schedule.due(learner.tick, bool(wanted or evaluations.best_now)):
                self._save()
            if agreed & Flag.REPORT or found:
                yield from self._report(found)
        self.seconds = time.perf_counter() - self.started
        yield from self._report()

    def _next_stop(self) -> int:
        """Return the next tick after which there is something to do, whatever the flags."""
        tick = self.learner.tick
        stops = self.evaluations.next(tick), self.stopping.next(tick), self.schedule.next(tick)
        # A stop waits for the next tick at which the run can be saved.
        if self.stop_flags or self.ended_by or self.schedule.wanted:
            return min(self.last, *stops, next_multiple(tick, self.learner.save_every))
        return min(self.last, *stops)

    def _requests(self) -> int:
        """Return the flags of this rank; not collective."""
        flags = Flag.STOP if self.pending_signals else 0
        if self.memory.short():
            flags |= Flag.FULL
        if self.learner.comm.rank == 0:
            if self.reporter.due():
                flags |= Flag.REPORT
            if self.schedule.time_is_up():
                flags |= Flag.SAVE
            if self.stopping.time_is_up():
                flags |= Flag.TIME
        return flags

    def _stop(self, agreed: int) -> None:
        self.stop_flags = agreed
        why = "stop requested" if agreed & Flag.STOP else "the table reaches run.table_gib"
        self.log(f"{why}: saving in {-self.learner.tick % self.learner.save_every:,} ticks")

    def _save(self) -> None:
        learner, section = self.learner, self.learner.job.checkpoint
        on_root(learner.comm, self.lock.check)
        self.stopping.store()
        nbytes = learner.comm.allreduce(len(learner.shard)) * learner.shard.columns * 16
        with self.watchdog.patient(patience(nbytes)):
            learner.quiesce()
            self.path, _ = saving.save(
                learner, learner.job.directory, self.writer, section.keep, self.schedule.milestones
            )
        self.schedule.note(learner.tick)
        self.reporter.saved = learner.steps
        self.evaluations.keep(self.path)

    def _report(self, found: Evaluation | None = None) -> Iterator[dict[str, Any]]:
        """Yield a report, if there is one; the watchdog waits while the caller has it."""
        on_root(self.learner.comm, self.lock.check)
        line = self.reporter.report(found)
        if line is not None:
            with self.watchdog.patient(math.inf):
                yield line

    def _end(self) -> ExitCode:
        """Release everything; log how the run ended, and write the summary if it is done."""
        learner, path, seconds = self.learner, self.path, self.seconds
        assert path is not None
        self.reporter.close()
        if advice := self.reporter.advice():
            self.log(advice)
        digest = learner.digest()
        self.evaluations.close()
        learner.close()
        if learner.tick < self.last and not self.ended_by:
            if self.stop_flags & Flag.FULL:
                self.log(self.memory.explain())
            self.log(
                f"stopped at step {learner.steps:,}; go on with `hpcq resume "
                f"{learner.job.shown(learner.job.directory)}`"
            )
            learner.comm.Barrier()
            return ExitCode.STOPPED
        if self.ended_by:
            self.log(f"ended by {self.ended_by}")
        done = learner.steps - self.first_step
        clipped = learner.comm.allreduce(learner.collector.clipped)
        with self.watchdog.patient(START_SECONDS):
            on_root(
                learner.comm,
                lambda: summarise(
                    learner, path, digest, done, seconds, clipped, self.ended_by, self.log
                ),
            )
        learner.comm.Barrier()
        return ExitCode.DONE


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
    if learner.save_every > 1 and steps != job.run.steps:
        rounded = f" (run.steps = {job.run.steps:,}, up to a reset tick)"
    idle = learner.comm.size - job.environment.count // (job.environment.vector or 1)
    each = f"none on {idle} of them" if idle > 0 else f"about {max(share, 1)} each"
    return (
        f"{each}, {steps:,} steps{rounded}, run directory {job.shown(job.directory)}, "
        f"checkpoints by {writer}"
    )
