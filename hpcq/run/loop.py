"""Tick until a job is done: flags, reports, evaluations, checkpoints, summary."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from hpcq.checkpoint import saving
from hpcq.errors import ExitCode
from hpcq.learning.evaluation import Evaluation
from hpcq.learning.learner import Learner
from hpcq.mpi import on_root
from hpcq.run import run_directory
from hpcq.run.announcement import announce
from hpcq.run.checkpoint_schedule import CheckpointSchedule
from hpcq.run.evaluation_schedule import EvaluationSchedule
from hpcq.run.lock import RunLock
from hpcq.run.memory_limit import MemoryLimit
from hpcq.run.reporter import Reporter
from hpcq.run.snapshots import Snapshots, forget
from hpcq.run.stopping import Stopping, next_multiple, tick_of
from hpcq.run.summary import summarise
from hpcq.run.watchdog import START_SECONDS, Watchdog, patience

Log = Callable[[str], object]

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
    SNAPSHOT = 32


def last_tick(learner: Learner) -> int:
    """Return the tick after which the job is done: saved by a cut, or where it can be without."""
    every = 1 if learner.job.run.cut_episodes else learner.save_every
    return tick_of(learner.job.run.steps, learner.job, every)


# A stop waits so many seconds for a reset tick; if none comes by then it cuts episodes.
STOP_PATIENCE = 5.0


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
        self.learner, self.writer, self.lock = learner, writer, lock
        # One in memory goes when the run ends: this tick is still to be saved.
        self.path = path if path and path.parent == learner.job.directory else None
        self.log, self.pending_signals, self.watchdog = log, pending_signals, watchdog
        watchdog.stepping = lambda: learner.stepping
        self.last = last_tick(learner)
        title = announce(learner, self.last, writer, log)
        self.schedule = CheckpointSchedule(learner.job, learner.save_every, learner.tick)
        self.snapshots = Snapshots(learner, log)
        self.memory = MemoryLimit(learner)
        self.memory.check()
        self.reporter = Reporter(
            learner, self.last, learner.steps if self.path else None, title, log
        )
        self.stopping = Stopping(learner)
        self.evaluations = EvaluationSchedule(learner, watchdog.beat)
        if self.path is not None:
            self.evaluations.keep(self.path)
        elif path is None and (note := self.evaluations.none_before(self.last)):
            log(note)
        self.stop_flags = 0
        """flags that stop the run early"""
        self.ended_by = self.stopping.recheck()
        self._waits = False
        """whether a stop waits for a reset tick, rather than cut episodes"""
        self.started, self.seconds, self.first_step = time.perf_counter(), 0.0, learner.steps

    def training(self) -> Training:
        """Tick until the job is done or a stop is requested."""
        yield from self._ticks()
        return self._end()

    def _ticks(self) -> Iterator[dict[str, Any]]:
        """Tick until the run is over and saved; yield reports."""
        learner, evaluations = self.learner, self.evaluations
        if learner.tick < self.last and not self.ended_by:
            # That of a run that is extended: it is not done any more.
            on_root(learner.comm, lambda: run_directory.remove_summary(learner.job.directory))
        elif self.path is None and learner.tick >= self.last:
            self._save()
        while learner.tick < self.last and not (
            (self.stop_flags or self.ended_by) and self.reporter.saved == learner.steps
        ):
            cut, stopping = self._cuts(), bool(self.stop_flags or self.ended_by)
            agreed = learner.advance(
                self._requests(), self._next_stop(), self.memory.most_rows, Flag.FULL, cut
            )
            self.watchdog.beat()
            if cut:
                learner.progress.note_cut(learner.tick)
            if agreed & (Flag.STOP | Flag.FULL) and not self.stop_flags:
                self.stop_flags = agreed
            found = evaluations.evaluate()
            self.ended_by = self.ended_by or self.stopping.check(found is not None)
            if agreed & Flag.TIME:
                self.ended_by = self.ended_by or self.stopping.time_text()
            if (self.stop_flags or self.ended_by) and not stopping:
                self._wait_or_cut()
            # A round of asynchronous mode can be worth several ticks.
            at_end = learner.tick >= self.last - learner.ticks_to_quiesce
            over = self.stop_flags or self.ended_by or at_end
            wanted = over or agreed & Flag.SAVE
            if self.schedule.due(learner.tick, bool(wanted or evaluations.best_now), cut):
                self._save()
            elif self._snapshot_due(agreed):
                self._snapshot()
            if agreed & Flag.REPORT or found:
                yield from self._report(found)
        self.seconds = time.perf_counter() - self.started
        yield from self._report()

    def _cuts(self) -> bool:
        """Return whether the next tick cuts episodes, so that the run can be saved."""
        next_tick = self.learner.tick + 1
        over = self.stop_flags or self.ended_by or next_tick == self.last
        return bool(over) and self._must_cut(next_tick)

    def _must_cut(self, tick: int) -> bool:
        """Return whether the run can be saved after this tick only if it cuts episodes."""
        waits = self._waits and tick != self.last
        return (
            self.learner.job.run.cut_episodes and not waits and tick % self.learner.save_every > 0
        )

    def _next_stop(self) -> int:
        """Return the next tick after which there is something to do, whatever the flags."""
        tick = self.learner.tick
        last = self.last - self._must_cut(self.last) - self.learner.ticks_to_quiesce
        stops = [self.evaluations.next(tick), self.stopping.next(tick), self.schedule.next(tick)]
        # A stop waits for the next tick at which the run can be saved.
        wanted = self.schedule.wanted or self.snapshots.wanted
        if self.stop_flags or self.ended_by or wanted:
            stops.append(next_multiple(tick, self.learner.save_every))
        return max(tick + 1, min(last, *stops))

    def _requests(self) -> int:
        """Return the flags of this rank, each until all have agreed on it; not collective."""
        flags = 0
        if not self.stop_flags:
            flags = Flag.STOP if self.pending_signals else 0
            if self.memory.short():
                flags |= Flag.FULL
        if self.learner.comm.rank == 0:
            if self.reporter.due():
                flags |= Flag.REPORT
            if self.schedule.time_is_up() and not self.schedule.wanted:
                flags |= Flag.SAVE
            if self.snapshots.time_is_up() and not self.snapshots.wanted:
                flags |= Flag.SNAPSHOT
            if self.stopping.time_is_up() and not self.ended_by:
                flags |= Flag.TIME
        return flags

    def _wait_or_cut(self) -> None:
        """Decide whether a stop waits for a reset tick: if one comes soon. Say what it does."""
        learner = self.learner
        left = -learner.tick % learner.save_every
        ticks = (learner.steps - self.first_step) / learner.job.environment.count
        seconds = left * (time.perf_counter() - self.started) / max(ticks, 1)
        soon = seconds <= STOP_PATIENCE and not self.stop_flags & Flag.FULL
        self._waits = learner.comm.bcast(soon)
        if not self.stop_flags:
            return
        why = "the table reaches run.table_gib" if self.stop_flags & Flag.FULL else "stop requested"
        if left == 0:
            self.log(f"{why}: saving")
        elif learner.job.run.cut_episodes and not self._waits:
            self.log(f"{why}: saving in a tick, which cuts the episodes")
        else:
            self.log(f"{why}: saving in {left:,} ticks")

    def _save(self) -> None:
        learner, section = self.learner, self.learner.job.checkpoint
        on_root(learner.comm, self.lock.check)
        self.stopping.store()
        with self.watchdog.patient(self._patience()):
            learner.quiesce()
            self.path, _ = saving.save(
                learner, learner.job.directory, self.writer, section.keep, self.schedule.milestones
            )
        self.schedule.note(learner.tick)
        self.reporter.saved = learner.steps
        self.evaluations.keep(self.path)

    def _snapshot_due(self, agreed: int) -> bool:
        """Return whether to write a checkpoint in memory; it waits until the run can be saved."""
        self.snapshots.wanted |= bool(agreed & Flag.SNAPSHOT)
        return self.snapshots.wanted and self.learner.tick % self.learner.save_every == 0

    def _snapshot(self) -> None:
        self.stopping.store()
        with self.watchdog.patient(self._patience()):
            self.snapshots.write()

    def _patience(self) -> float:
        """Return the seconds that writing a checkpoint may take."""
        learner = self.learner
        return patience(learner.comm.allreduce(len(learner.shard)) * learner.shard.columns * 16)

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
        forget(learner.comm, learner.job.directory)
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
                    learner,
                    path,
                    digest,
                    done,
                    seconds,
                    clipped,
                    self.ended_by,
                    self.reporter.newest_infos,
                    self.log,
                ),
            )
        learner.comm.Barrier()
        return ExitCode.DONE
