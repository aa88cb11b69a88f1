"""Plots of a run over its steps: each function returns a figure, or None without data."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.printable import printable
from hpcq.view.drawing import COLOURS, GREY, drawable, engineering, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = dict[str, Any]

_MOST_PANELS = 16
PHASES = ("step", "pack", "exchange", "apply", "answer", "receive")


def _column(lines: Sequence[Line], name: str) -> NDArray[np.float64]:
    """Return a key of every line; values that are missing or cannot be drawn are nan."""
    found = [line.get(name) for line in lines]
    values = np.array([math.nan if v is None else v for v in found], np.float64)
    return np.where(drawable(values), values, math.nan)


def _has_data(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())


def _steps_axis(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    axes.margins(x=0.02)


def _curve(axes: "Axes", steps: Any, values: Any, **options: Any) -> None:
    """Plot the finite values, with markers where they are few."""
    known = np.isfinite(values)
    marker = "o" if known.sum() < 40 else None
    axes.plot(steps[known], values[known], marker=marker, markersize=3, **options)


def learning(lines: Sequence[Line], summary: Line | None) -> "Figure | None":
    """Plot returns and lengths of episodes over steps: of training, and of evaluations."""
    steps, returns = _column(lines, "step"), _column(lines, "mean_return")
    lengths, evaluated = _column(lines, "mean_length"), _column(lines, "evaluation_return")
    if not _has_data(returns) and not _has_data(evaluated):
        return None
    figure, (left, right) = figure_of(9, 3.2, 1, 2)
    _curve(left, steps, returns, color=COLOURS[0], label="training, exploration included")
    if _has_data(evaluated):
        _curve(left, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
    # The optimum is a wide band: both lines stay visible where the greedy policy reaches it.
    for key, label, style in (
        ("optimal_return", "optimum, exact", {"linewidth": 5, "alpha": 0.3}),
        ("greedy_return", "greedy policy at the end, exact", {"linewidth": 1.2, "linestyle": "--"}),
    ):
        value = (summary or {}).get(key)
        if isinstance(value, int | float) and drawable(np.array(value, np.float64)):
            left.axhline(value, color=GREY, label=label, **style)
    left.set_title("Mean return of an episode")
    left.legend()
    _curve(right, steps, lengths, color=COLOURS[0], label="training")
    evaluated = _column(lines, "evaluation_length")
    if _has_data(evaluated):
        _curve(right, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
        right.legend()
    right.set_title("Mean length of an episode, steps")
    for axes in (left, right):
        _steps_axis(axes)
    return figure


def infos(lines: Sequence[Line], keys: Sequence[str]) -> "Figure | None":
    """Plot numbers of the environments' infos: by the mean, of an episode's last value, its sum."""
    steps = _column(lines, "step")
    shown = [
        (key + title, name)
        for key in keys
        for title, name in (("", f"info_{key}"), (", sum", f"info_{key}_sum"))
        if _has_data(_column(lines, name)) or _has_data(_column(lines, f"evaluation_{name}"))
    ][:_MOST_PANELS]
    if not shown:
        return None
    rows = -(-len(shown) // 2)
    figure, all_axes = figure_of(9, 2.6 * rows, rows, 2)
    for axes, (title, name) in zip(np.ravel(all_axes), shown, strict=False):
        _curve(axes, steps, _column(lines, name), color=COLOURS[0], label="training")
        evaluated = _column(lines, f"evaluation_{name}")
        if _has_data(evaluated):
            _curve(axes, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
            axes.legend()
        axes.set_title(printable(title).replace("$", r"\$"))
        _steps_axis(axes)
    for axes in np.ravel(all_axes)[len(shown) :]:
        axes.set_visible(False)
    return figure


def progress(lines: Sequence[Line]) -> "Figure | None":
    """Plot speed, states seen and exploration over steps."""
    steps = _column(lines, "step")
    panels = [
        (name, title)
        for name, title in (
            ("steps_per_second", "Steps per second"),
            ("states", "States seen"),
            ("epsilon", "Epsilon"),
        )
        if _has_data(_column(lines, name))
    ]
    if not panels:
        return None
    figure, all_axes = figure_of(9, 2.6, 1, len(panels))
    for axes, (name, title) in zip(all_axes, panels, strict=True):
        values = _column(lines, name)
        _curve(axes, steps, values, color=COLOURS[0])
        axes.set_title(title)
        axes.set_ylim(0, 1.08 * np.nanmax(values) or 1)
        if name != "epsilon":
            engineering(axes)
        _steps_axis(axes)
    return figure


def phases(lines: Sequence[Line]) -> "Figure | None":
    """Plot the time of a transition by phase, over steps."""
    found = {name: _column(lines, f"ns_{name}") for name in PHASES}
    found = {name: values for name, values in found.items() if _has_data(values)}
    if not found:
        return None
    steps = _column(lines, "step")
    complete = np.all([np.isfinite(values) for values in found.values()], axis=0)
    if not complete.any():
        return None
    figure, (left, right) = figure_of(9, 3, 1, 2)
    left.stackplot(
        np.concatenate([[0], steps[complete]]),
        *(np.concatenate([v[complete][:1], v[complete]]) for v in found.values()),
        colors=COLOURS,
        step="pre",
    )
    left.set_title("Nanoseconds per transition and rank")
    left.set_ylim(bottom=0)
    _steps_axis(left)
    means = [float(values[complete].mean()) for values in found.values()]
    places = np.arange(len(found))
    bars = right.barh(places, means, color=COLOURS[: len(found)])
    total = sum(means) or 1.0
    right.bar_label(bars, [f"{100 * mean / total:.0f} %" for mean in means], padding=3)
    right.set_yticks(places, list(found))
    right.invert_yaxis()
    right.margins(x=0.12)
    right.locator_params(axis="x", nbins=4)
    right.grid(visible=False, axis="y")
    right.set_title("Mean over the run, ns")
    return figure


def balance(lines: Sequence[Line]) -> "Figure | None":
    """Plot the load balance of rows, messages and work: minimum and maximum over the mean."""
    names = [
        (name, title)
        for name, title in (
            ("rows", "Rows of a rank"),
            ("messages", "Messages to a rank"),
            ("busy_ns", "Work of a rank"),
        )
        if _has_data(_column(lines, f"{name}_mean"))
    ]
    if not names:
        return None
    steps = _column(lines, "step")
    figure, all_axes = figure_of(9, 2.6, 1, len(names))
    for axes, (name, title) in zip(all_axes, names, strict=True):
        mean = _column(lines, f"{name}_mean")
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = (_column(lines, f"{name}_{end}") / mean for end in ("min", "max"))
        known = drawable(low) & drawable(high)
        low, high = np.where(known, low, math.nan), np.where(known, high, math.nan)
        axes.fill_between(steps[known], low[known], high[known], color=COLOURS[0], alpha=0.25)
        _curve(axes, steps, low, color=COLOURS[0], label="minimum")
        _curve(axes, steps, high, color=COLOURS[3], label="maximum")
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set_title(f"{title}, over the mean")
        away = np.abs(np.concatenate([low[known], high[known]]) - 1)
        span = max(0.1, 1.3 * float(away.max(initial=0.0)))
        axes.set_ylim(1 - span, 1 + span)
        _steps_axis(axes)
    all_axes[0].legend()
    return figure
