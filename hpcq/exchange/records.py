"""The records that travel: updates and queries to the owner of a state, replies back."""

import numpy as np


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
    # The weight comes early: numba takes a record that begins like another one for that one.
    at = 16 if weighted else 8
    end = at + (8 if real.itemsize == 4 else 16)
    names, formats = ["hash", "draw", "target", "column"], ["u8", "u8", real, "u4"]
    offsets = [0, at, at, at + real.itemsize]
    if masked:
        names, formats, offsets = [*names, "mask"], [*formats, "u8"], [*offsets, end]
        end += 8
    if weighted:
        names, formats, offsets = [*names, "weight"], [*formats, "f8"], [*offsets, 8]
    message = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": end})
    reply = np.dtype(
        [("value", real), ("action", "u2"), ("greedy", "u1"), ("table", "u1")], align=True
    )
    return message, reply
