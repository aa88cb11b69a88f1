"""Grids as pictures: the value of every cell, and where the greedy policy goes from there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.view.drawing import figure_of
from hpcq.view.grids import Grid
from hpcq.view.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Cells of a side up to which arrows can be told apart.
ARROWS = 30


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
    figure, every = figure_of(width, height, down, across)
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
