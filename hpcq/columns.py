"""The environments of a rank as the columns of a checkpoint, and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.actors import Actors
from hpcq.hashing import mix64, unmix64
from hpcq.schema import ENVIRONMENTS

_HASHES = ("hash", "update_hash")


def actors_to_columns(actors: Actors) -> dict[str, NDArray]:
    """Return the arrays as the datasets of `ENVIRONMENTS`; hashes become keys."""
    columns = {}
    for name, (field_, dtype) in ENVIRONMENTS.items():
        column = getattr(actors, field_)
        if field_ in _HASHES:
            column = unmix64.py_func(column)
        columns[name] = np.ascontiguousarray(column, dtype)
    return columns


def columns_to_actors(columns: dict[str, NDArray], actors: Actors) -> None:
    """Fill the arrays from saved columns: the inverse of `actors_to_columns`."""
    for name, (field_, _) in ENVIRONMENTS.items():
        column = columns[name]
        getattr(actors, field_)[:] = mix64.py_func(column) if field_ in _HASHES else column
