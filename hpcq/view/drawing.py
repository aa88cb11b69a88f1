"""What all plots share: matplotlib, colours, axes.

matplotlib comes with ``pip install 'hpcq[plot]'``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import DependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


# Beyond this the arithmetic of axes overflows. A table that has diverged can hold anything.
LARGEST = 1e100


def drawable(values: NDArray) -> NDArray[np.bool_]:
    """Return which values can be drawn: they are finite, and not absurdly large."""
    return np.abs(values) <= LARGEST


def left_out(values: NDArray) -> str:
    """Return how many values cannot be drawn, as text; empty if all can."""
    count = int((~drawable(values)).sum())
    return f"{count:,} not finite or beyond {LARGEST:g}: left out" if count else ""


def load_matplotlib() -> None:
    """Import matplotlib.

    Raises
    ------
    DependencyError
        where it is missing.
    """
    # Nothing is shown, whatever the user's backend; a wrong one would fail at import.
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DependencyError("plots need matplotlib: pip install 'hpcq[plot]'") from None
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before


@contextmanager
def styled() -> Iterator[None]:
    """Draw in hpcq's style, whatever a matplotlibrc says, here or at home: it may ask for TeX.

    Raises
    ------
    DependencyError
        where matplotlib is missing.
    """
    load_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def figure_of(width: float, height: float, rows: int = 1, columns: int = 1) -> Any:
    """Return a figure, its size in inches, and its axes in a flat array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def engineering(axes: "Axes") -> None:
    """Write large numbers on the y axis as 10k, 3M."""
    from matplotlib.ticker import EngFormatter

    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
