"""The records that travel: updates and queries to the owner of a state, replies back."""

import numpy as np

# Constants of kernels.

# The column of an update that is none: a place kept, so that updates stand in the order of queries.
NO_COLUMN = np.uint32(0xFFFFFFFF)


def record_types(
    dtype: np.dtype, masked: bool = False, weighted: bool = False
) -> tuple[np.dtype, np.dtype]:
    """Return the record types of messages (updates and queries) and replies.

    An update is (hash, target, column), a query (hash, draw): the draw stands where target and
    column stand in an update. With `masked`, both also carry the bitset of the legal actions; with
    `weighted`, an update carries a factor of its learning rate.

    A reply carries the next action and the value to bootstrap from; with it, where the rule looks
    at them, whether the action is greedy, and which of two tables the value is for. In a receipt,
    the value is the TD error of the update.

    Parameters
    ----------
    dtype
        float32 or float64, as the table's.
    """
    real = np.dtype(dtype)
    # They come early: numba takes a record that begins like a shorter one for that one.
    extra = [("mask", "u8")] * masked + [("weight", "f8")] * weighted
    at = 8 + 8 * len(extra)
    message = np.dtype(
        {
            "names": ["hash", "draw", "target", "column", *(name for name, _ in extra)],
            "formats": ["u8", "u8", real, "u4", *(kind for _, kind in extra)],
            "offsets": [0, at, at, at + real.itemsize, *range(8, at, 8)],
            "itemsize": at + (8 if real.itemsize == 4 else 16),
        }
    )
    reply = np.dtype(
        [("value", real), ("action", "u2"), ("greedy", "u1"), ("table", "u1")], align=True
    )
    return message, reply
