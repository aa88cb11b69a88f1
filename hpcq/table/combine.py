"""How several tables of values become one: what the policy acts on, and views show."""

import numpy as np
from numpy.typing import NDArray

COMBINATIONS = ("mean", "min")
# Replies store the index of the table in one byte.
MAX_TABLES = 256


def combine_tables(q: NDArray[np.floating], combine: str) -> NDArray[np.floating]:
    """Return values (n, actions) of several tables (n, tables, actions): their mean or minimum."""
    return q.min(axis=1) if combine == "min" else q.mean(axis=1, dtype=q.dtype)
