"""The environments of a rank as columns of a checkpoint, hashes as keys; and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.schema import ENVIRONMENTS
from hpcq.collectors.actors import Actors
from hpcq.hashing import hashes_of, keys_of

_HASHES = ("hash", "update_hash")


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
