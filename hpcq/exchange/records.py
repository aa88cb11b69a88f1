"""The records that travel: updates and queries to the owner of a state, replies back."""

import numpy as np

from hpcq.spaces.masks import shape_of
from hpcq.table.combine import MAX_TABLES

# The column of an update to be skipped: a placeholder that keeps updates in the order of queries.
NO_COLUMN = np.uint32(0xFFFFFFFF)


def record_types(
    dtype: np.dtype, mask_words: int = 0, weighted: bool = False, tables: int = 1
) -> tuple[np.dtype, np.dtype]:
    """Return the record types of messages (updates and queries) and replies.

    An update is (hash, target, column), a query (hash, draw): the draw overlays target and column
    of an update. With `mask_words`, both also carry the mask of the legal actions, of so many
    words; with `weighted`, an update carries a factor of its learning rate.

    A reply carries the next action and the value to bootstrap from; with it, where the rule uses
    them, whether the action is greedy, and the index of the table that the value is for. In an
    acknowledgement, the value is the TD error of the update.

    Parameters
    ----------
    dtype
        float32 or float64, as the table's.
    tables
        action values of every (state, action) that the rule keeps.

    Raises
    ------
    ValueError
        for more than `MAX_TABLES` tables.
    """
    if tables > MAX_TABLES:
        raise ValueError(f"{tables} tables, expected at most {MAX_TABLES}")
    real = np.dtype(dtype)
    # These come first, because numba confuses record types that share a prefix.
    mask = np.dtype(("u8", shape_of(mask_words)))
    extra = [("mask", mask)] * (mask_words > 0) + [("weight", np.dtype("f8"))] * weighted
    ends = np.cumsum([8, *(kind.itemsize for _, kind in extra)]).tolist()
    at = ends[-1]
    message = np.dtype(
        {
            "names": ["hash", "draw", "target", "column", *(name for name, _ in extra)],
            "formats": ["u8", "u8", real, "u4", *(kind for _, kind in extra)],
            "offsets": [0, at, at, at + real.itemsize, *ends[:-1]],
            "itemsize": at + (8 if real.itemsize == 4 else 16),
        }
    )
    reply = np.dtype(
        [("value", real), ("action", "u2"), ("greedy", "u1"), ("table", "u1")], align=True
    )
    return message, reply
