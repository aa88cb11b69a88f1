"""A picture of a sweep: the mean of each setting, with its 95 % interval over seeds."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcq import disk
from hpcq.cluster.collect import Collected, Row, setting_text
from hpcq.errors import DependencyError, StorageError
from hpcq.printable import printable
from hpcq.view.drawing import COLOURS, GREY, drawable, figure_of, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "sweep.png"

# Settings in a picture, the best ones.
_MOST = 40
_MEANINGS = {
    "greedy_return": "exact mean return of the greedy policy",
    "training_return": "mean return at the end of training, exploration included",
}


def draw(found: Collected, folder: Path) -> str:
    """Draw the table of a sweep into its folder; return a line that says where.

    Raises
    ------
    StorageError
        if the picture cannot be written.
    """
    path, png = folder / PICTURE, io.BytesIO()
    try:
        with styled():
            figure(found.name, found.rows).savefig(png, format="png", dpi=150)
    except DependencyError:
        return "no picture: pip install 'hpcq[plot]'"
    try:
        disk.write(path, png.getvalue())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    return f"picture: {path}"


def figure(name: str, rows: Sequence[Row]) -> "Figure":
    """Plot a line for each setting, the best at the top; a grey point is one run.

    Parameters
    ----------
    name
        of the value compared.
    rows
        best first; values that cannot be drawn are left out.
    """
    shown = rows[:_MOST]
    made, (axes,) = figure_of(7, 1.3 + 0.35 * len(shown))
    for at, row in enumerate(shown):
        values = np.array(row.values, np.float64)
        values = values[drawable(values)]
        axes.plot(values, np.full(values.size, at), "o", color=GREY, alpha=0.5, markersize=3)
        if drawable(np.array([row.mean]))[0]:
            # One run has no interval.
            error = row.half_width if len(row.values) > 1 else 0.0
            axes.errorbar(row.mean, at, xerr=error, fmt="o", color=COLOURS[0], capsize=4)
    labels = [printable(setting_text(row.setting)).replace("$", r"\$") for row in shown]
    axes.set_yticks(np.arange(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(_MEANINGS[name])
    left_out = f"; the best {_MOST} of {len(rows)} settings" if len(rows) > _MOST else ""
    axes.set_title(f"Mean over seeds, 95 % interval{left_out}")
    return made
