"""Pictures of a run and of its table. Each function returns a figure, or None if nothing is known.

matplotlib comes with ``pip install 'hpcq[plot]'``.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import DependencyError
from hpcq.view.grids import Grid
from hpcq.view.inspect import sample_size
from hpcq.view.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = dict[str, Any]

PHASES = ("step", "pack", "exchange", "apply", "answer", "receive")
# Distinguishable with any colour vision: Okabe and Ito, "Color universal design", 2008.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
GREY = "#666666"
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "svg.fonttype": "none",
    "svg.hashsalt": "hpcq",
}
# Cells of a side up to which arrows can be told apart.
ARROWS = 30


def load_matplotlib() -> None:
    """Import matplotlib.

    Raises
    ------
    DependencyError
        where it is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DependencyError("pictures need matplotlib: pip install 'hpcq[plot]'") from None


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


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


def _engineering(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter

    axes.yaxis.set_major_formatter(EngFormatter(sep=""))


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
    figure, (left, right) = _figure(9, 3.2, 1, 2)
    _curve(left, steps, returns, color=COLOURS[0], label="training, exploration included")
    if _known(evaluated):
        _curve(left, steps, evaluated, color=COLOURS[3], label="evaluation, greedy")
    for key, label, style in (
        ("greedy_return", "greedy policy at the end, exact", "--"),
        ("optimal_return", "optimum, exact", ":"),
    ):
        value = (summary or {}).get(key)
        if value is not None:
            left.axhline(value, color=GREY, linestyle=style, linewidth=1.2, label=label)
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
    figure, every = _figure(9, 2.6, 1, len(panels))
    for axes, (name, title) in zip(every, panels, strict=True):
        values = _column(lines, name)
        _curve(axes, steps, values, color=COLOURS[0])
        axes.set_title(title)
        axes.set_ylim(0, 1.08 * np.nanmax(values) or 1)
        if name != "epsilon":
            _engineering(axes)
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
    figure, (left, right) = _figure(9, 3, 1, 2)
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
    figure, every = _figure(9, 2.6, 1, len(names))
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


def distribution(table: Table) -> "Figure | None":
    """Draw how greedy values, and updates, of a random sample of the states are distributed."""
    size = sample_size(table)
    if not size:
        return None
    pieces = list(table.pieces(0, size))
    values = np.concatenate([rows.q.max(axis=1) for rows in pieces]).astype(np.float64)
    visits = np.concatenate([rows.visits.sum(axis=1, dtype=np.int64) for rows in pieces])
    counted = table.header.visits
    figure, every = _figure(9, 2.8, 1, 1 + counted)
    whole = size == len(table)
    what = f"{size:,} states" if whole else f"a random sample of {size:,} states"
    every[0].hist(values, bins=bins_of(values), color=COLOURS[0])
    every[0].set_title(f"Greedy values of {what}")
    every[0].set_xlabel("largest Q-value of a state")
    if counted:
        top = max(1, int(visits.max()))
        edges = np.unique(np.floor(np.geomspace(1, top + 1, 50)))
        every[1].hist(np.maximum(visits, 1), bins=edges, color=COLOURS[2])
        every[1].set_xscale("log")
        every[1].set_title(f"Updates of {what}")
        every[1].set_xlabel("updates of a state, all actions together")
    for axes in every:
        axes.set_ylabel("states")
        _engineering(axes)
    return figure


def bins_of(values: NDArray[np.float64]) -> Any:
    """Return bins for a histogram: one for each value where these are few whole numbers."""
    low, high = float(values.min()), float(values.max())
    if high - low < 150 and (values == np.round(values)).all():
        return np.arange(low - 0.5, high + 1)
    return min(60, max(10, values.size // 4))


def maps(table: Table, grids: Sequence[Grid]) -> "Figure | None":
    """Draw the value of every cell, and the greedy policy as arrows; grey: never updated."""
    if not grids:
        return None
    found = [table.find_all(grid.keys.ravel()) for grid in grids]
    values = [np.where(seen, q.max(axis=1), np.nan) for seen, q in found]
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high, beyond = colour_ends(known)
    rows, columns = grids[0].shape
    across = 2 if len(grids) > 1 else 1
    down = -(-len(grids) // across)
    width = 9.0 if columns > rows or across > 1 else 6.5
    height = min(8.0, max(2.2, 0.8 * width / across * rows / columns) + 0.8) * down
    figure, every = _figure(width, height, down, across)
    for axes, grid, (_, q), value in zip(every, grids, found, values, strict=True):
        shown = value.reshape(grid.shape)
        image = axes.imshow(shown, cmap=_colours(), vmin=low, vmax=high)
        axes.set_title(grid.title)
        axes.grid(visible=False)
        bright = _brightness(image, shown)
        if max(grid.shape) <= ARROWS:
            _arrows(axes, grid, q, shown, bright)
            axes.set_xticks(np.arange(shown.shape[1]))
            axes.set_yticks(np.arange(shown.shape[0]))
        for (i, j), letter in grid.marks.items():
            colour = "black" if bright[i, j] else "white"
            axes.text(j - 0.45, i - 0.44, letter, color=colour, va="top", weight="bold", size=8)
        for i, j in grid.walls:
            axes.plot([j + 0.5, j + 0.5], [i - 0.5, i + 0.5], color="red", linewidth=2.5)
    figure.colorbar(image, ax=list(every), label="largest Q-value", shrink=0.8, extend=beyond)
    return figure


def colour_ends(values: NDArray) -> tuple[float, float, str]:
    """Return the ends of the colours, and beyond which of them there are values ("neither", ...).

    A few values far from all others, such as a very low `q_init` that nothing has corrected yet,
    would leave one colour for the rest.
    """
    first, third = np.quantile(values, [0.25, 0.75])
    low, high = float(values.min()), float(values.max())
    room = 5 * float(third - first)
    below, above = room > 0 and low < first - room, room > 0 and high > third + room
    beyond = ("neither", "min", "max", "both")[int(below) + 2 * int(above)]
    return float(first - room) if below else low, float(third + room) if above else high, beyond


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"].with_extremes(bad="#d0d0d0")


def _brightness(image: Any, shown: NDArray) -> NDArray[np.bool_]:
    """Return which cells are so bright that what is written there must be black."""
    colours = image.to_rgba(np.ma.masked_invalid(shown))
    return colours[..., :3] @ np.array([0.3, 0.59, 0.11]) > 0.5


def _arrows(
    axes: "Axes", grid: Grid, q: NDArray, shown: NDArray, bright: NDArray[np.bool_]
) -> None:
    """Draw every greedy action of every cell: an arrow, or a word."""
    best = (q == q.max(axis=1, keepdims=True)).reshape(*shown.shape, -1)
    for action, move in grid.moves.items():
        i, j = np.nonzero(best[..., action] & np.isfinite(shown))
        colours = np.where(bright[i, j], "black", "white")
        if isinstance(move, str):
            for row, column, colour in zip(i.tolist(), j.tolist(), colours, strict=True):
                axes.text(column, row, move, color=colour, ha="center", va="center", size=8)
            continue
        size = 0.5
        axes.quiver(
            j,
            i,
            np.full(i.size, size * move[1]),
            np.full(i.size, size * move[0]),
            color=colours,
            pivot="mid",
            angles="xy",
            scale_units="xy",
            scale=1,
            units="xy",
            width=0.05,
            headwidth=4,
            headlength=4,
            headaxislength=3.5,
        )
