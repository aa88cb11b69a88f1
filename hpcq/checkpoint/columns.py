"""The environments of a rank as columns of a checkpoint, hashes as keys; and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.header import ENVIRONMENTS, WINDOWS
from hpcq.collectors.batch import EnvBatch
from hpcq.collectors.n_step import Windows
from hpcq.hashing import hashes_of, keys_of

_HASHES = ("hash", "update_hash")


def batch_to_columns(batch: EnvBatch) -> dict[str, NDArray]:
    """Return the arrays as the datasets of `ENVIRONMENTS`; hashes become keys."""
    columns = {}
    for name, (field_, dtype) in ENVIRONMENTS.items():
        column = getattr(batch, field_)
        if field_ in _HASHES:
            column = keys_of(np.ascontiguousarray(column))
        columns[name] = np.ascontiguousarray(column, dtype)
    return columns


def columns_to_batch(columns: dict[str, NDArray], batch: EnvBatch) -> None:
    """Fill the arrays from saved columns: the inverse of `batch_to_columns`."""
    for name, (field_, _) in ENVIRONMENTS.items():
        column = columns[name]
        getattr(batch, field_)[:] = hashes_of(column) if field_ in _HASHES else column


def windows_to_columns(windows: Windows) -> dict[str, NDArray]:
    """Return the arrays as the datasets of `WINDOWS`; hashes become keys."""
    columns = {name: getattr(windows, field_) for name, field_ in WINDOWS.items()}
    hashes = windows.hash
    return {**columns, "windows/key": keys_of(hashes.reshape(-1)).reshape(hashes.shape)}


def columns_to_windows(columns: dict[str, NDArray], windows: Windows) -> None:
    """Fill the arrays from saved columns: the inverse of `windows_to_columns`."""
    for name, field_ in WINDOWS.items():
        column = columns[name]
        if name == "windows/key":
            column = hashes_of(column.reshape(-1)).reshape(column.shape)
        getattr(windows, field_)[:] = column
