"""Keys of hashes, and the environments of a rank as columns of a checkpoint; and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.schema import ENVIRONMENTS, MASKS, WINDOWS, Dataset
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


def environments_to_columns(
    actors: Actors, windows: Windows, datasets: list[Dataset]
) -> dict[str, NDArray]:
    """Return the arrays as these datasets of `schema.environments`; hashes become keys."""
    columns = {}
    for dataset in datasets:
        column, is_hash = _column(dataset.name, actors, windows)
        if is_hash:
            column = keys_of(np.ascontiguousarray(column).reshape(-1)).reshape(column.shape)
        columns[dataset.name] = np.ascontiguousarray(column, dataset.dtype)
    return columns


def columns_to_environments(columns: dict[str, NDArray], actors: Actors, windows: Windows) -> None:
    """Fill the arrays from saved columns: the inverse of `environments_to_columns`."""
    for name, saved in columns.items():
        column, is_hash = _column(name, actors, windows)
        column[:] = hashes_of(saved.reshape(-1)).reshape(saved.shape) if is_hash else saved


def _column(name: str, actors: Actors, windows: Windows) -> tuple[NDArray, bool]:
    """Return the array of a dataset, and whether it holds hashes where the file has keys."""
    if name in WINDOWS:
        field = WINDOWS[name][0]
        return getattr(windows, field), field == "hash"
    field = {**ENVIRONMENTS, **MASKS}[name][0]
    return getattr(actors, field), field in _HASHES
