"""How far the jobs of a pool are: a line that is updated on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from rich.live import Live
from rich.text import Text

from hpcq.cluster.task import Task
from hpcq.output import echo, stdout
from hpcq.printable import printable_lines
from hpcq.run import metrics_files, terminal
from hpcq.run.formatting import time_text
from hpcq.run.live import Terminal

# Seconds between two updates on a terminal, and between two plain lines.
_LIVE, _PLAIN = 1.0, 30.0
# Running jobs that a plain line names.
_NAMED = 8


class PoolView:
    """Shows what a pool says, and how far it is.

    Parameters
    ----------
    tasks
        those to do.
    done, steps_done
        how many are done already, and their steps.
    live
        update a line in place.
    """

    def __init__(self, tasks: Sequence[Task], done: int, steps_done: int, live: bool) -> None:
        self._count, self._done, self._failed = len(tasks) + done, done, 0
        self._total = max(steps_done + sum(task.steps for task in tasks), 1)
        self._steps = {task.name: _steps_of(task.directory, task.steps) for task in tasks}
        self._steps_done = steps_done
        self._first_share = self._share()
        self._began = self._shown = time.monotonic()
        self._said: set[str] = set()
        self._console = Terminal(file=stdout()) if live else None
        self._live = Live(console=self._console, auto_refresh=False) if self._console else None

    def log(self, text: str) -> None:
        """Print lines, above the one that is updated."""
        if self._console is None:
            echo(printable_lines(text))
            return
        with contextlib.suppress(OSError):
            self._console.print(printable_lines(text), markup=False, soft_wrap=True)

    def log_once(self, text: str) -> None:
        """Print a line unless it has been printed."""
        if text not in self._said:
            self._said.add(text)
            self.log(text)

    def ended(self, task: Task, done: bool, failed: bool) -> None:
        """Take note that a task has ended."""
        self._done += done
        self._failed += failed
        self._steps[task.name] = task.steps if done else _steps_of(task.directory, task.steps)

    def show(self, running: Sequence[Task]) -> None:
        """Show how far it is, if it is time to."""
        now = time.monotonic()
        if self._live is not None and not self._live.is_started:
            self._live.start()
            # Whatever becomes of this process, the terminal keeps its cursor.
            self._live.console.show_cursor(True)
        elif now - self._shown < (_PLAIN if self._live is None else _LIVE):
            return
        self._shown = now
        for task in running:
            self._steps[task.name] = _steps_of(task.directory, task.steps)
        if self._live is None:
            echo(self._text(running[:_NAMED], len(running) - _NAMED))
            return
        self._live.console.width = terminal.width()
        text = Text(self._text(running, 0), no_wrap=True, overflow="ellipsis")
        with contextlib.suppress(OSError):
            self._live.update(text, refresh=True)

    def close(self) -> None:
        """Stop updating."""
        if self._live is not None and self._live.is_started:
            with contextlib.suppress(OSError):
                self._live.update(Text(""), refresh=True)
                self._live.stop()

    def _share(self) -> float:
        return (self._steps_done + sum(self._steps.values())) / self._total

    def _text(self, running: Sequence[Task], more: int) -> str:
        share, failed = self._share(), f", {self._failed} failed" if self._failed else ""
        each = [f"{t.name} {100 * self._steps[t.name] / t.steps:.0f} %" for t in running]
        if more > 0:
            each.append(f"{more} more")
        gained, left = share - self._first_share, ""
        if gained > 0:
            seconds = (time.monotonic() - self._began) * (1 - share) / gained
            left = f"  {time_text(seconds)} left"
        return (
            f"{100 * share:5.1f} %  {self._done} of {self._count} done{failed}{left}"
            f"  {', '.join(each)}"
        )


def _steps_of(directory: Path, most: int) -> int:
    """Return the steps that a run has reported."""
    line = metrics_files.newest(directory)
    return min(line["step"], most) if line else 0
