"""A run over its steps, as pictures: each function returns a figure, or None if none is known."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.view.drawing import COLOURS, GREY, engineering, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = dict[str, Any]

PHASES = ("step", "pack", "exchange", "apply", "answer", "receive")


def _column(lines: Sequence[Line], name: str) -> NDArray[np.float64]:
    """Return a key of every line, nan where there is none."""
    values = [line.get(name) for line in lines]
    return np.array([math.nan if v is None else v for v in values], np.float64)


def _known(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())


def _steps_axis(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    axes.margins(x=0.02)


def _curve(axes: "Axes", steps: Any, values: Any, **options: Any) -> None:
    """Draw what is known; a point for what stands alone."""
    known = np.isfinite(values)
    marker = "o" if known.sum() < 40 else None
    axes.plot(steps[known], values[known], marker=marker, markersize=3, **options)


def learning(lines: Sequence[Line], summary: Line | None) -> "Figure | None":
    """Draw returns and lengths of episodes over steps: of training, and of evaluations."""
    steps, returns = _column(lines, "step"), _column(lines, "mean_return")
    lengths, evaluated = _column(lines, "mean_length"), _column(lines, "evaluation_return")
    if not _known(returns) and not _known(evaluated):
        return None
    figure, (left, right) = figure_of(9, 3.2, 1, 2)
    _curve(left, steps, returns, color=COLOURS[0], label="training, exploration included")
    if _known(evaluated):
        _curve(left, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
    # The optimum is a band: where the greedy policy reaches it, both are to be seen.
    for key, label, look in (
        ("optimal_return", "optimum, exact", {"linewidth": 5, "alpha": 0.3}),
        ("greedy_return", "greedy policy at the end, exact", {"linewidth": 1.2, "linestyle": "--"}),
    ):
        value = (summary or {}).get(key)
        if value is not None:
            left.axhline(value, color=GREY, label=label, **look)
    left.set_title("Mean return of an episode")
    left.legend()
    _curve(right, steps, lengths, color=COLOURS[0], label="training")
    evaluated = _column(lines, "evaluation_length")
    if _known(evaluated):
        _curve(right, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
        right.legend()
    right.set_title("Mean length of an episode, steps")
    for axes in (left, right):
        _steps_axis(axes)
    return figure


def progress(lines: Sequence[Line]) -> "Figure | None":
    """Draw speed, states seen and exploration over steps."""
    steps = _column(lines, "step")
    panels = [
        (name, title)
        for name, title in (
            ("steps_per_second", "Steps per second"),
            ("states", "States seen"),
            ("epsilon", "Epsilon"),
        )
        if _known(_column(lines, name))
    ]
    if not panels:
        return None
    figure, every = figure_of(9, 2.6, 1, len(panels))
    for axes, (name, title) in zip(every, panels, strict=True):
        values = _column(lines, name)
        _curve(axes, steps, values, color=COLOURS[0])
        axes.set_title(title)
        axes.set_ylim(0, 1.08 * np.nanmax(values) or 1)
        if name != "epsilon":
            engineering(axes)
        _steps_axis(axes)
    return figure


def phases(lines: Sequence[Line]) -> "Figure | None":
    """Draw where the time of a transition goes, phase by phase, over steps."""
    found = {name: _column(lines, f"ns_{name}") for name in PHASES}
    found = {name: values for name, values in found.items() if _known(values)}
    if not found:
        return None
    steps = _column(lines, "step")
    fine = np.all([np.isfinite(values) for values in found.values()], axis=0)
    figure, (left, right) = figure_of(9, 3, 1, 2)
    left.stackplot(
        np.concatenate([[0], steps[fine]]),
        *(np.concatenate([v[fine][:1], v[fine]]) for v in found.values()),
        colors=COLOURS,
        step="pre",
    )
    left.set_title("Nanoseconds per transition and rank")
    left.set_ylim(bottom=0)
    _steps_axis(left)
    means = [float(values[fine].mean()) for values in found.values()]
    places = np.arange(len(found))
    bars = right.barh(places, means, color=COLOURS[: len(found)])
    right.bar_label(bars, [f"{100 * mean / sum(means):.0f} %" for mean in means], padding=3)
    right.set_yticks(places, list(found))
    right.invert_yaxis()
    right.margins(x=0.12)
    right.locator_params(axis="x", nbins=4)
    right.grid(visible=False, axis="y")
    right.set_title("Mean over the run, ns")
    return figure


def balance(lines: Sequence[Line]) -> "Figure | None":
    """Draw how evenly rows, messages and work lie on the ranks: least and most, over the mean."""
    names = [
        (name, title)
        for name, title in (
            ("rows", "Rows of a rank"),
            ("messages", "Messages to a rank"),
            ("busy_ns", "Work of a rank"),
        )
        if _known(_column(lines, f"{name}_mean"))
    ]
    if not names:
        return None
    steps = _column(lines, "step")
    figure, every = figure_of(9, 2.6, 1, len(names))
    for axes, (name, title) in zip(every, names, strict=True):
        mean = _column(lines, f"{name}_mean")
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = (_column(lines, f"{name}_{end}") / mean for end in ("min", "max"))
        known = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(steps[known], low[known], high[known], color=COLOURS[0], alpha=0.25)
        _curve(axes, steps, low, color=COLOURS[0], label="least")
        _curve(axes, steps, high, color=COLOURS[3], label="most")
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set_title(f"{title}, over the mean")
        span = max(0.1, 1.3 * float(np.nanmax(np.abs(np.concatenate([low, high]) - 1))))
        axes.set_ylim(1 - span, 1 + span)
        _steps_axis(axes)
    every[0].legend()
    return figure
