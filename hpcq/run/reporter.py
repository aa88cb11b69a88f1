"""Progress reports: gathered from all ranks, printed and stored by rank 0."""

import math
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hpcq import disk
from hpcq.collectors import infos
from hpcq.collectors.centring import RATE
from hpcq.learning.evaluation import Evaluation
from hpcq.learning.learner import Learner
from hpcq.learning.stopwatch import PHASES
from hpcq.printable import printable
from hpcq.run import metrics_files, run_directory
from hpcq.run.formatting import EXPLORATION, rate_text, time_text
from hpcq.run.tensorboard import TensorBoard
from hpcq.run.waiting import Waiting

# What each rank contributes to a report; the time of each phase follows.
_COLUMNS = (
    "episodes",
    "returns",
    "lengths",
    "ended",
    "rows",
    "load",
    "messages",
    "table",
    "memory",
)
_BALANCED = ("rows", "messages")

# Reports of whose speed the median tells the time left.
SMOOTHED = 5


@runtime_checkable
class View(Protocol):
    """A log that also shows reports: `live.LiveView`."""

    def report(self, line: dict[str, Any], title: str, total: int) -> None:
        """Show a report of a run of `total` steps."""

    def step(self, step: int) -> None:
        """Move the progress bar between two reports, if it is time to."""

    def close(self) -> None:
        """Stop updating; the last report stays visible."""


class Reporter:
    """Gathers what the ranks have done since the last report; rank 0 prints and stores it.

    Sums of returns depend on the number of ranks in their last bits: they serve reports only, and
    nothing that decides what the run does may depend on them.

    Parameters
    ----------
    last
        tick at which the run is done.
    saved
        step of the newest checkpoint; None before the first.
    title
        of the run, for reports.
    log
        prints a line; a `View` also shows reports.
    """

    def __init__(
        self,
        learner: Learner,
        last: int,
        saved: int | None,
        title: str,
        log: Callable[[str], object],
    ) -> None:
        self._learner = learner
        self._total = last * learner.job.environment.count
        self._log = log
        self._view = log if isinstance(log, View) else None
        self._title = title
        self._phases = list(PHASES)
        self._infos = tuple(learner.job.environment.info)
        # The newest mean of each number of the infos, for the summary.
        self.newest_infos: dict[str, float] = {}
        self._every = learner.job.run.report_every
        self._time = time.perf_counter()
        self._steps = learner.steps
        self._seconds = 0.0
        self.saved = saved
        self._rates: list[float] = []
        self._waiting = Waiting()
        self._warned: set[str] = set()
        self._board: TensorBoard | None = None
        if learner.comm.rank == 0:
            self._cut_files()
            if learner.job.run.tensorboard:
                self._board = self._open_board()

    def due(self) -> bool:
        """Return whether the next report is due by this rank's clock; update the view, too."""
        if self._view is not None:
            self._view.step(self._learner.steps)
        return time.perf_counter() - self._time >= self._every

    def report(self, found: Evaluation | None = None) -> dict[str, Any] | None:
        """Report what happened since the last report; None if nothing did. Collective.

        Parameters
        ----------
        found
            the evaluation made at this step.
        """
        learner = self._learner
        steps, now = learner.steps - self._steps, time.perf_counter()
        if steps == 0:
            return None
        mine = self._own()
        ranks = np.empty((learner.comm.size, mine.size)) if learner.comm.rank == 0 else None
        learner.comm.Gather(mine, ranks)
        # An environment may have stopped the clocks (freezegun and its like).
        seconds = max(now - self._time, 1e-9)
        self._time, self._steps = now, learner.steps
        self._seconds += seconds
        line = None
        if ranks is not None:
            line = self._line(ranks, steps / seconds, found)
            self._waiting.add(line, steps, seconds)
            if self._view is not None:
                self._view.report(line, self._title, self._total)
            else:
                self._log(self._text(line))
            self._store(line)
        return learner.comm.bcast(line)

    def advice(self) -> str:
        """Return what to try where ranks mostly waited for each other; rank 0 alone knows."""
        return self._waiting.note() if self._learner.comm.size > 1 else ""

    def close(self) -> None:
        """Close the files, and the view if there is one."""
        if self._board is not None:
            self._board.close()
        if self._view is not None:
            self._view.close()

    def _own(self) -> NDArray[np.float64]:
        """Return the `_COLUMNS` of this rank, the nanoseconds of each phase per tick, and infos."""
        learner, shard = self._learner, self._learner.shard
        messages = learner.received()
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        spent = learner.stopwatch.take()
        values = (
            *learner.take_episode_stats(),
            learner.ended_episodes(),
            len(shard),
            shard.load_factor,
            messages,
            shard.nbytes,
            memory,
            *(spent.get(p, math.nan) for p in self._phases),
            *learner.collector.take_info_stats().ravel(),
        )
        return np.array(values)

    def _line(
        self, ranks: NDArray[np.float64], rate: float, found: Evaluation | None
    ) -> dict[str, Any]:
        """Return a report: the line of the metrics files. See run/README.md for its keys."""
        learner = self._learner
        columns = dict(zip(_COLUMNS, ranks.T, strict=False))
        episodes = int(columns["episodes"].sum())
        learning_rate = learner.job.learning.learning_rate
        exploration = learner.exploration(int(columns["ended"].sum()))
        line: dict[str, Any] = {
            "step": learner.steps,
            "tick": learner.tick,
            "time": round(time.time(), 3),
            "seconds": round(self._seconds, 3),
            "steps_per_second": rate,
            "episodes": episodes,
            "mean_return": float(columns["returns"].sum()) / episodes if episodes else None,
            "mean_length": float(columns["lengths"].sum()) / episodes if episodes else None,
            **{key: exploration.get(key) for key in EXPLORATION},
            "learning_rate": (
                None if learning_rate.counts_visits else learning_rate.at(learner.steps)
            ),
            "states": int(columns["rows"].sum()),
            "table_bytes": int(columns["table"].sum()),
            "load": float(columns["load"].max()),
            "memory_bytes": int(columns["memory"].max()),
        }
        for name in _BALANCED:
            line[f"{name}_min"] = int(columns[name].min())
            line[f"{name}_mean"] = float(columns[name].mean())
            line[f"{name}_max"] = int(columns[name].max())
        share = learner.job.environment.count / learner.comm.size
        phases_end = len(_COLUMNS) + len(self._phases)
        spent = ranks[:, len(_COLUMNS) : phases_end] / share
        for name, values in zip(self._phases, spent.T, strict=True):
            line[f"ns_{name}"] = _number(values.mean())
        # Local work; the rest is communication and waiting.
        busy = spent[:, [name != "exchange" for name in self._phases]].sum(axis=1)
        line["busy_ns_min"] = _number(busy.min())
        line["busy_ns_mean"] = _number(busy.mean())
        line["busy_ns_max"] = _number(busy.max())
        line["checkpoint_step"] = self.saved
        line["evaluation_return"] = found and found.mean_return
        line["evaluation_error"] = found and found.standard_error
        line["evaluation_length"] = found and found.mean_length
        line["best_return"] = learner.progress.best_return
        line["best_step"] = learner.progress.best_step
        if learner.algorithm.centring:
            line["reward_rate"] = float(learner.centre.numbers[RATE])
        stats = ranks[:, phases_end:].sum(axis=0).reshape(-1, infos.COLUMNS)
        self._add_infos(line, "", infos.means(self._infos, stats))
        self._add_infos(line, "evaluation_", found.infos if found else {})
        return line

    def _add_infos(self, line: dict[str, Any], prefix: str, found: dict[str, float | None]) -> None:
        """Add the means of numbers in infos to a report."""
        for name in infos.names(self._infos):
            value = found.get(name)
            line[prefix + name] = value
            if value is not None:
                self.newest_infos[prefix + name] = value

    def _text(self, line: dict[str, Any]) -> str:
        self._rates = [*self._rates[1 - SMOOTHED :], line["steps_per_second"]]
        # An evaluation or a checkpoint makes one interval slow.
        left = (self._total - line["step"]) / statistics.median(self._rates)
        returned = line["mean_return"]
        exploration = [f"{key} {line[key]:.3g}  " for key in EXPLORATION if line[key] is not None]
        numbers = [
            f"{printable(key)} {line[f'info_{key}']:.4g}  "
            for key in self._infos
            if line[f"info_{key}"] is not None
        ]
        return (
            f"{100 * line['step'] / self._total:5.1f} %  step {line['step']:,}  "
            f"{rate_text(line['steps_per_second'])} steps/s  "
            f"episodes {line['episodes']:,}  "
            f"return {'-' if returned is None else f'{returned:.2f}'}  "
            f"{''.join(numbers)}"
            f"{self._evaluation_text(line)}"
            f"{''.join(exploration)}states {line['states']:,}  {time_text(left)} left"
        )

    def _evaluation_text(self, line: dict[str, Any]) -> str:
        last = self._learner.progress.last_return
        if last is None:
            return ""
        return f"evaluation {last:.4g} (best {line['best_return']:.4g})  "

    def _cut_files(self) -> None:
        """Remove from the metrics files what is later than the step at which this run resumes."""
        try:
            line = metrics_files.cut(
                self._learner.job.directory, self._learner.steps, self._warn_once
            )
            self._seconds = float((line or {}).get("seconds") or 0.0)
        except OSError as error:
            self._warn(error)

    def _open_board(self) -> TensorBoard | None:
        learner = self._learner
        try:
            return TensorBoard(learner.job.directory, learner.steps)
        except OSError as error:
            self._warn(error)
            return None

    def _store(self, line: dict[str, Any]) -> None:
        try:
            metrics_files.append(self._learner.job.directory, line)
            if self._board is not None:
                self._board.add(line)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        # A failing log must not end the training.
        name = Path(error.filename or run_directory.METRICS).name.removesuffix(disk.PARTIAL)
        self._warn_once(f"{name} not written: {error.strerror}")

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._log(f"warning: {text}")


def _number(value: float) -> float | None:
    """Return a number, or None, which is null in JSON, where it is missing."""
    return round(float(value), 3) if math.isfinite(value) else None
