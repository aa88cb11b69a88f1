"""Plots of grids: the value and the greedy actions of every cell."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.view.drawing import drawable, figure_of, left_out
from hpcq.view.grids import Grid
from hpcq.view.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Cells of a side up to which arrows are drawn.
ARROWS = 30


def maps(table: Table, grids: Sequence[Grid]) -> "Figure | None":
    """Plot the value of every cell, and the greedy policy as arrows; grey: never updated."""
    if not grids:
        return None
    found = [table.find_all(grid.keys.ravel()) for grid in grids]
    values = [np.where(seen, q.max(axis=1), np.nan) for seen, q in found]
    missing = left_out(
        np.concatenate([v[seen] for v, (seen, _) in zip(values, found, strict=True)])
    )
    values = [np.where(drawable(v), v, np.nan) for v in values]
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high, beyond = colour_range(known)
    rows, columns = grids[0].shape
    across = 2 if len(grids) > 1 else 1
    down = -(-len(grids) // across)
    width = 9.0 if columns > rows or across > 1 else 6.5
    height = min(8.0, max(2.2, 0.8 * width / across * rows / columns) + 0.8) * down
    figure, all_axes = figure_of(width, height, down, across)
    for axes, grid, (_, q), value in zip(all_axes, grids, found, values, strict=True):
        cells = value.reshape(grid.shape)
        image = axes.imshow(cells, cmap=_colours(), vmin=low, vmax=high)
        axes.set_title(grid.title)
        axes.grid(visible=False)
        bright = _brightness(image, cells)
        if max(grid.shape) <= ARROWS:
            _arrows(axes, grid, q, cells, bright)
            axes.set_xticks(np.arange(cells.shape[1]))
            axes.set_yticks(np.arange(cells.shape[0]))
        for (i, j), letter in grid.marks.items():
            colour = "black" if bright[i, j] else "white"
            axes.text(j - 0.45, i - 0.44, letter, color=colour, va="top", weight="bold", size=8)
        for i, j in grid.walls:
            axes.plot([j + 0.5, j + 0.5], [i - 0.5, i + 0.5], color="red", linewidth=2.5)
    if missing:
        figure.suptitle(f"values: {missing}", size="small")
    figure.colorbar(image, ax=list(all_axes), label="largest Q-value", shrink=0.8, extend=beyond)
    return figure


def colour_range(values: NDArray) -> tuple[float, float, str]:
    """Return the range of the colours, and at which ends values exceed it: "neither", "min", ...

    Outliers, such as a very low `q_init` where nothing was learned yet, are outside the range.
    """
    first, third = np.quantile(values, [0.25, 0.75])
    low, high = float(values.min()), float(values.max())
    margin = 5 * float(third - first)
    below, above = margin > 0 and low < first - margin, margin > 0 and high > third + margin
    beyond = ("neither", "min", "max", "both")[int(below) + 2 * int(above)]
    return float(first - margin) if below else low, float(third + margin) if above else high, beyond


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"].with_extremes(bad="#d0d0d0")


def _brightness(image: Any, cells: NDArray) -> NDArray[np.bool_]:
    """Return which cells are so bright that text on them must be black."""
    colours = image.to_rgba(np.ma.masked_invalid(cells))
    return colours[..., :3] @ np.array([0.3, 0.59, 0.11]) > 0.5


def _arrows(
    axes: "Axes", grid: Grid, q: NDArray, cells: NDArray, bright: NDArray[np.bool_]
) -> None:
    """Draw every greedy action of every cell: an arrow, or text."""
    best = (q == q.max(axis=1, keepdims=True)).reshape(*cells.shape, -1)
    for action, move in grid.moves.items():
        i, j = np.nonzero(best[..., action] & np.isfinite(cells))
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
