"""Histograms of the values and updates of a table's states."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.view.drawing import COLOURS, drawable, engineering, figure_of, left_out
from hpcq.view.inspect import sample_size
from hpcq.view.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distribution(table: Table) -> "Figure | None":
    """Plot histograms of the greedy values, and updates, of a random sample of the states."""
    size = sample_size(table)
    if not size:
        return None
    pieces = list(table.pieces(0, size))
    values = np.concatenate([rows.q.max(axis=1) for rows in pieces]).astype(np.float64)
    visits = np.concatenate([rows.visits.sum(axis=1, dtype=np.int64) for rows in pieces])
    counted = table.header.visits
    figure, all_axes = figure_of(9, 2.8, 1, 1 + counted)
    whole = size == len(table)
    what = f"{size:,} states" if whole else f"a random sample of {size:,} states"
    shown, missing = values[drawable(values)], left_out(values)
    if shown.size:
        all_axes[0].hist(shown, bins=bins_of(shown), color=COLOURS[0])
    all_axes[0].set_title(f"Greedy values of {what}" + (f"\n{missing}" if missing else ""))
    all_axes[0].set_xlabel("largest Q-value of a state")
    if counted:
        top = max(1, int(visits.max()))
        edges = np.unique(np.floor(np.geomspace(1, top + 1, 50)))
        all_axes[1].hist(np.maximum(visits, 1), bins=edges, color=COLOURS[2])
        all_axes[1].set_xscale("log")
        all_axes[1].set_title(f"Updates of {what}")
        all_axes[1].set_xlabel("updates of a state, all actions together")
    for axes in all_axes:
        axes.set_ylabel("states")
        engineering(axes)
    return figure


def bins_of(values: NDArray[np.float64]) -> Any:
    """Return bins for a histogram: one for each value if these are few integers."""
    low, high = float(values.min()), float(values.max())
    if high - low < 150 and (values == np.round(values)).all() and abs(low) < 1 << 50:
        return np.arange(low - 0.5, high + 1)
    count, large = min(60, max(10, values.size // 4)), max(abs(low), abs(high))
    if high - low > 4 * count * np.spacing(large):
        return count
    # All but equal: numbers of this size have no room for more bins.
    margin = max(0.5, large / 1024)
    return np.array([low - margin, high + margin])
