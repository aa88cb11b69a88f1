"""Keys of hashes, and the environments of a rank as columns of a checkpoint; and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.schema import ENVIRONMENTS, WINDOWS
from hpcq.collectors.actors import Actors
from hpcq.collectors.windows import Windows
from hpcq.hashing import mix64, unmix64
from hpcq.native.kernels import kernel

_HASHES = ("hash", "update_hash")


@kernel
def _mix(keys, hashes):
    for i in range(keys.size):
        hashes[i] = mix64(keys[i])


@kernel
def _unmix(hashes, keys):
    for i in range(hashes.size):
        keys[i] = unmix64(hashes[i])


def hashes_of(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hash of each key."""
    hashes = np.empty(keys.size, np.uint64)
    _mix(keys, hashes)
    return hashes


def keys_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the key of each hash."""
    keys = np.empty(hashes.size, np.uint64)
    _unmix(hashes, keys)
    return keys


def actors_to_columns(actors: Actors) -> dict[str, NDArray]:
    """Return the arrays as the datasets of `ENVIRONMENTS`; hashes become keys."""
    columns = {}
    for name, (field_, dtype) in ENVIRONMENTS.items():
        column = getattr(actors, field_)
        if field_ in _HASHES:
            column = keys_of(np.ascontiguousarray(column))
        columns[name] = np.ascontiguousarray(column, dtype)
    return columns


def columns_to_actors(columns: dict[str, NDArray], actors: Actors) -> None:
    """Fill the arrays from saved columns: the inverse of `actors_to_columns`."""
    for name, (field_, _) in ENVIRONMENTS.items():
        column = columns[name]
        getattr(actors, field_)[:] = hashes_of(column) if field_ in _HASHES else column


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
