"""What a learner saves beside its table and `ENVIRONMENTS`: legal actions, windows, replay."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.columns import columns_to_windows, windows_to_columns
from hpcq.checkpoint.header import MASKS, WINDOWS, Header
from hpcq.collectors.batch import EnvBatch
from hpcq.collectors.n_step import Windows, make_windows
from hpcq.collectors.replay import Replay, replay_shapes
from hpcq.errors import CheckpointError
from hpcq.learning.algorithm import Algorithm


def shapes(algorithm: Algorithm, count: int) -> dict[str, list[int]]:
    """Return the shapes of what `count` environments need saved, by the names in `EXTRAS`."""
    found = {name: [count] for name in MASKS if algorithm.masked}
    if algorithm.steps > 1:
        windows = make_windows(1, algorithm.steps)
        for name, field in WINDOWS.items():
            found[name] = [count, *getattr(windows, field).shape[1:]]
    return found | replay_shapes(algorithm.replay, count, algorithm.masked)


def to_columns(
    algorithm: Algorithm, batch: EnvBatch, windows: Windows, replay: Replay | None
) -> dict[str, NDArray]:
    """Return one rank's arrays as the datasets of `shapes`."""
    columns: dict[str, NDArray] = {}
    if algorithm.steps > 1:
        columns |= windows_to_columns(windows)
    if algorithm.masked:
        masks = {name: getattr(batch, field) for name, field in MASKS.items()}
        columns |= {name: np.ascontiguousarray(mask) for name, mask in masks.items()}
    if replay is not None:
        columns |= replay.columns()
    return columns


def read(
    file: Mapping[str, Any], header: Header, expected: dict[str, list[int]], mine: slice
) -> dict[str, NDArray]:
    """Return the rows `mine` of the datasets of the `expected` shapes.

    Raises
    ------
    CheckpointError
        if the file has something else.
    """
    for name, shape in expected.items():
        if header.extra.get(name) != shape:
            raise CheckpointError(f"the checkpoint's {name} is not of shape {shape}")
    return {name: file[name][mine] for name in expected}


def from_columns(
    columns: dict[str, NDArray],
    algorithm: Algorithm,
    batch: EnvBatch,
    windows: Windows,
    replay: Replay | None,
) -> None:
    """Fill the arrays of one rank from saved columns: the inverse of `to_columns`."""
    if algorithm.steps > 1:
        columns_to_windows(columns, windows)
    if algorithm.masked:
        for name, field in MASKS.items():
            getattr(batch, field)[:] = columns[name]
    if replay is not None:
        replay.restore(columns)
