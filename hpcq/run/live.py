"""The live view: the state of a run on a terminal, redrawn in place by rank 0.

Log lines scroll above it. It is redrawn between ticks, at most once a second, by the thread that
learns: no second thread, and no damaged terminal if the run is killed.
"""

import contextlib
import statistics
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcq.output import stdout
from hpcq.printable import printable, printable_lines
from hpcq.run import terminal
from hpcq.run.estimate import size
from hpcq.run.formatting import EXPLORATION, number_text, rate_text, time_text

_SECONDS = 1.0
_REMEMBERED = 30
_SMOOTHED = 5
_BARS = " ▁▂▃▄▅▆▇█"
_COLORS = ("green", "cyan", "red", "yellow", "magenta", "blue")


class Terminal(Console):
    """Standard output whose reader may go away: that must not end the training."""

    def __init__(self, **options: Any) -> None:
        super().__init__(force_terminal=True, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Print no more."""
        self.quiet = True


class LiveView:
    """Called, it logs a line as plain output would; `report` redraws the view.

    Parameters
    ----------
    console
        where to draw; default: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Terminal(file=stdout())
        self._live: Live | None = None
        self._line: dict[str, Any] = {}
        self._title, self._total, self._step = "", 1, 0
        self._last_evaluation: dict[str, Any] = {}
        self._last_phases: dict[str, float] = {}
        self._last_infos: dict[str, float] = {}
        self._returns: list[float] = []
        self._rates: list[float] = []
        self._over = ""
        self._drawn = 0.0

    def __call__(self, line: str) -> None:
        """Log a line, above the view."""
        with contextlib.suppress(OSError):
            self._console.print(printable_lines(line), markup=False, soft_wrap=True)

    def report(self, line: dict[str, Any], title: str, total: int) -> None:
        """Show a report.

        Parameters
        ----------
        line
            of the metrics.
        title
            of the run.
        total
            steps of the whole run.
        """
        self._line, self._title, self._total = line, title, total
        self._step = line["step"]
        self._rates = [*self._rates[1 - _SMOOTHED :], line["steps_per_second"]]
        if line["evaluation_return"] is not None:
            self._last_evaluation = line
        # A short report may contain no timed tick.
        phases = {k[3:]: v for k, v in line.items() if k.startswith("ns_") and v is not None}
        self._last_phases = phases or self._last_phases
        if line["mean_return"] is not None:
            self._returns = [*self._returns[1 - _REMEMBERED :], line["mean_return"]]
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
            # A run that is killed must not leave the terminal without a cursor.
            self._console.show_cursor(True)
        self._draw()

    def step(self, step: int) -> None:
        """Move the progress bar between two reports, if it is time to."""
        if self._live is not None and time.monotonic() - self._drawn >= _SECONDS:
            self._step = step
            self._draw()

    def close(self) -> None:
        """Stop redrawing; later lines come below the view."""
        if self._live is not None:
            self._over = "done" if self._step >= self._total else "ended"
            self._draw()
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        assert self._live is not None
        self._drawn = time.monotonic()
        self._console.width = terminal.width()
        with contextlib.suppress(OSError):
            self._live.update(self._view(), refresh=True)

    def _view(self) -> Group:
        """Return the view: a title, the progress bar, and a line for each aspect of the run."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True, min_width=len("evaluation"))
        rows.add_column()
        for name, text in (
            ("episodes", self._episodes()),
            ("info", self._infos()),
            ("evaluation", self._evaluation()),
            ("learning", self._learning()),
            ("table", self._table()),
            ("ranks", self._ranks()),
            ("time", self._phases()),
            ("saved", self._saved()),
        ):
            if text:
                rows.add_row(name, text)
        title = Text(printable(self._title), style="bold", no_wrap=True, overflow="ellipsis")
        return Group(Text(), title, self._bar(), Padding(rows, (1, 0, 1, 0)))

    def _bar(self) -> Table:
        share = self._step / self._total
        # The rate of one short report is noisy.
        rate = statistics.median(self._rates)
        ahead = self._over or f"{time_text((self._total - self._step) / rate)} left"
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(ratio=1)
        for _ in range(4):
            bar.add_column(no_wrap=True, justify="right")
        bar.add_row(
            ProgressBar(self._total, self._step),
            f"[bold]{100 * share:.1f} %[/]",
            f"{number_text(self._step)} of {number_text(self._total)} steps",
            f"[bold green]{rate_text(rate)}/s[/]",
            ahead,
        )
        return bar

    def _episodes(self) -> Text:
        line = self._line
        text = Text(f"{line['episodes']:,}")
        if line["mean_return"] is not None:
            text.append("  return ", "dim").append(f"{line['mean_return']:.4g}", "bold")
            text.append("  length ", "dim").append(f"{line['mean_length']:.4g}  ")
            text.append(_sparkline(self._returns), "green")
        return text

    def _infos(self) -> Text | None:
        """Return the newest mean of every number in the infos."""
        new = {k: v for k, v in self._line.items() if k.startswith("info_") and v is not None}
        self._last_infos.update(new)
        text = Text()
        for key, value in self._last_infos.items():
            text.append(f"{printable(key[5:])} ", "dim").append(f"{value:.4g}  ")
        return text if self._last_infos else None

    def _evaluation(self) -> Text | None:
        found, line = self._last_evaluation, self._line
        if not found:
            return None
        text = Text(f"{found['evaluation_return']:.4g}", "bold")
        text.append(f" ± {found['evaluation_error']:.2g}", "dim")
        text.append(f"  length {found['evaluation_length']:.4g}")
        text.append(f"  at step {number_text(found['step'])}", "dim")
        text.append("  best ", "dim").append(f"{line['best_return']:.4g}", "bold")
        return text.append(f" at step {number_text(line['best_step'])}", "dim")

    def _learning(self) -> Text:
        line, text = self._line, Text()
        for key in (*EXPLORATION, "learning_rate"):
            if line[key] is not None:
                text.append(f"{key.replace('_', ' ')} ", "dim").append(f"{line[key]:.3g}  ")
        return text

    def _table(self) -> Text:
        line = self._line
        text = Text(f"{line['states']:,}").append(" states  ", "dim")
        text.append(size(line["table_bytes"])).append("  load ", "dim")
        text.append(f"{line['load']:.2f}").append("  memory ", "dim")
        return text.append(size(line["memory_bytes"])).append(" a rank at most", "dim")

    def _ranks(self) -> Text:
        line = self._line
        text = Text("rows ", "dim")
        text.append(f"{line['rows_min']:,} ... {line['rows_max']:,}", "default")
        text.append("  messages ")
        text.append(f"{line['messages_min']:,} ... {line['messages_max']:,}", "default")
        if line["busy_ns_min"] is not None:
            text.append("  busy ")
            text.append(f"{line['busy_ns_min']:.0f} ... {line['busy_ns_max']:.0f} ns", "default")
        return text

    def _phases(self) -> Text | None:
        """Return the shares of a tick's time as a bar, and its legend."""
        phases = self._last_phases
        total = sum(phases.values())
        if not total:
            return None
        text, width = Text(), 20
        colors = dict(zip(phases, _COLORS * len(phases), strict=False))
        done = 0.0
        for name, value in phases.items():
            before, done = round(width * done / total), done + value
            text.append("█" * (round(width * done / total) - before), colors[name])
        for name, value in phases.items():
            text.append("  ").append(name, colors[name]).append(f" {value:.0f}")
        return text.append(" ns", "dim")

    def _saved(self) -> Text:
        step = self._line["checkpoint_step"]
        if step is None:
            return Text("not yet", "dim")
        return Text(f"step {step:,}")


def _sparkline(values: list[float]) -> str:
    """Return small bars, one for each value."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 2) / (high - low) if high > low else 0.0
    return "".join(_BARS[1 + round((value - low) * scale)] for value in values)
