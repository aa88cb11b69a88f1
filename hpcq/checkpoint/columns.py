"""Arrays in memory as columns of a checkpoint, by their declarations; and back."""

import numpy as np
from numpy.typing import NDArray

from hpcq.fields import Field
from hpcq.hashing import hashes_of, keys_of


def to_column(field: Field, array: NDArray) -> NDArray:
    """Return an array, hashes of states, as the file has it: contiguous, keys."""
    array = np.ascontiguousarray(array)
    if field.bound == "states":
        array = keys_of(array.reshape(-1)).reshape(array.shape)
    return array.astype(field.dtype, copy=False)


def from_column(field: Field, column: NDArray) -> NDArray:
    """Return what memory holds of a column: the inverse of `to_column`, but for the dtype."""
    if field.bound == "states":
        return hashes_of(column.reshape(-1)).reshape(column.shape)
    return column
