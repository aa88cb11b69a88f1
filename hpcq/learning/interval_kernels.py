"""The sums of averages and intervals, which stand behind the values of a row: see intervals.py."""

from typing import Any

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable
from hpcq.learning.intervals import COUNT, MEAN, MIDDLE, SPREAD, SUMS


@inlined
def begin_sums(q: QTable, slot: np.uint64, columns: int, after: int) -> None:
    """Begin the sums of a new row, which stand behind its values."""
    for column in range(columns):
        at = columns + SUMS * column
        q[slot, at + COUNT] = -float(after)
        q[slot, at + MEAN] = 0.0
        q[slot, at + MIDDLE] = 0.0
        q[slot, at + SPREAD] = 0.0


@inlined
def add_value(q: QTable, slot: np.uint64, columns: int, column: Any, shift: float) -> None:
    """Add a value that has been updated to its sums; `shift` is what q* has above it."""
    at = np.uint64(columns) + np.uint64(SUMS) * column
    n: Any = q[slot, at] + 1.0
    q[slot, at] = n
    if n < 1.0:
        return
    mean = q[slot, at + np.uint64(MEAN)]
    mean += (q[slot, column] + shift - mean) / n
    weight, total = n * n, n * (n + 1.0) * (2.0 * n + 1.0) / 6.0
    middle = q[slot, at + np.uint64(MIDDLE)]
    before = mean - middle
    middle += weight / total * before
    q[slot, at + np.uint64(MEAN)] = mean
    q[slot, at + np.uint64(MIDDLE)] = middle
    q[slot, at + np.uint64(SPREAD)] += weight * before * (mean - middle)
