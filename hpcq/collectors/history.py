"""What every environment keeps of its past: arrays, and how a checkpoint holds them.

`Windows` serve returns of several steps (n_step.py), `Rings` replay (replay.py), `Priorities`
prioritised replay (priorities.py). No kernels here: the process that checks the structure of a
file imports the declarations, and must not have to load numba.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.fields import Field


class Windows(NamedTuple):
    """The last transitions of every environment, the oldest first; (n, 0) where one step is all."""

    hash: NDArray[np.uint64]
    """(n, steps)"""
    action: NDArray[np.uint32]
    """(n, steps)"""
    reward: NDArray[np.float64]
    """(n, steps)"""
    value: NDArray[np.float64]
    """(n, steps), to bootstrap from after each"""
    target: NDArray[np.float64]
    """(n, steps), of those that are due"""
    mask: NDArray[np.uint64]
    """(n, steps)"""
    length: NDArray[np.uint32]
    """(n,), transitions kept"""
    due: NDArray[np.uint32]
    """(n,), how many of them, from the oldest on, the next tick sends as updates"""
    offset: NDArray[np.uint32]
    """(n,), to add to an action for the column that these update"""


WINDOW_FIELDS = (
    Field("windows/key", "hash", "u8", ("steps",), "states", ("n_step",)),
    Field("windows/action", "action", "u4", ("steps",), "actions", ("n_step",)),
    Field("windows/reward", "reward", "f8", ("steps",), needs=("n_step",)),
    Field("windows/value", "value", "f8", ("steps",), needs=("n_step",)),
    Field("windows/target", "target", "f8", ("steps",), needs=("n_step",)),
    Field("windows/mask", "mask", "u8", ("steps",), needs=("n_step",)),
    Field("windows/length", "length", "u4", (), "lengths", ("n_step",)),
    Field("windows/due", "due", "u4", (), "lengths", ("n_step",)),
    Field("windows/offset", "offset", "u4", (), "offsets", ("n_step",)),
)


def make_windows(count: int, steps: int) -> Windows:
    """Return the windows of `count` environments; for returns of one step they hold nothing."""
    shape = (count, steps if steps > 1 else 0)
    kinds = ("u8", "u4", "f8", "f8", "f8", "u8")
    return Windows(
        *(np.zeros(shape, kind) for kind in kinds), *(np.zeros(count, "u4") for _ in range(3))
    )


class Rings(NamedTuple):
    """The latest transitions of every environment: arrays (n, capacity), but for `added`."""

    hash: NDArray[np.uint64]
    action: NDArray[np.uint32]
    reward: NDArray[np.float64]
    next: NDArray[np.uint64]
    """hash of the state it led to, also where the episode was truncated there"""
    terminated: NDArray[np.uint8]
    mask: NDArray[np.uint64]
    """legal actions of `hash`; this and the next one (n, 0) where there are no masks"""
    next_mask: NDArray[np.uint64]
    """of `next`"""
    added: NDArray[np.int64]
    """(n,), transitions so far; number k stands in place k modulo the capacity"""


RING_FIELDS = (
    Field("replay/key", "hash", "u8", ("capacity",), "states", ("replay",)),
    Field("replay/action", "action", "u4", ("capacity",), "actions", ("replay",)),
    Field("replay/reward", "reward", "f8", ("capacity",), needs=("replay",)),
    Field("replay/next", "next", "u8", ("capacity",), "states", ("replay",)),
    Field("replay/terminated", "terminated", "u1", ("capacity",), needs=("replay",)),
    Field("replay/mask", "mask", "u8", ("capacity",), needs=("replay", "masks")),
    Field("replay/next_mask", "next_mask", "u8", ("capacity",), needs=("replay", "masks")),
    Field("replay/count", "added", "i8", (), "counts", ("replay",)),
)


def ring_size(capacity: int, environments: int) -> int:
    """Return how many transitions the ring of one environment holds."""
    return -(-capacity // environments)


def make_rings(count: int, capacity: int, masked: bool) -> Rings:
    """Return empty rings."""
    kinds = ("u8", "u4", "f8", "u8", "u1")
    arrays: list[Any] = [np.zeros((count, capacity), kind) for kind in kinds]
    arrays += [np.zeros((count, capacity if masked else 0), np.uint64) for _ in range(2)]
    arrays.append(np.zeros(count, np.int64))
    return Rings(*arrays)


class Priorities(NamedTuple):
    """Of every environment the priorities of its ring, in a tree, and what is drawn by them.

    Node k of a tree has the children 2 k and 2 k + 1, and 1 is the top. From `size`, a power of
    two, on the nodes are the priorities themselves, so they are not kept in the tree.
    """

    value: NDArray[np.uint32]
    """(n, capacity), of the transition in each place; 0: its error is not known yet"""
    sums: NDArray[np.uint64]
    """(n, size), of the values below a node; not saved, it follows from them"""
    sampled: NDArray[np.int64]
    """(n, 1 + ratio), numbers of the live transition of this tick and of the replayed ones"""
    weight: NDArray[np.float64]
    """(n, 1 + ratio), of their updates: factors of the learning rate"""
    pending: NDArray[np.int64]
    """(n, 1 + ratio), numbers of the transitions whose updates this tick sends"""


PRIORITY_FIELDS = (
    Field("replay/priority", "value", "u4", ("capacity",), needs=("priorities",)),
    Field("replay/pending_number", "pending", "i8", ("entries",), "counts", ("priorities",)),
)


def make_priorities(count: int, capacity: int, ratio: int) -> Priorities:
    """Return the priorities of empty rings."""
    entries = count, 1 + ratio
    return Priorities(
        np.zeros((count, capacity), np.uint32),
        np.zeros((count, tree_size(capacity)), np.uint64),
        np.zeros(entries, np.int64),
        np.ones(entries),
        np.zeros(entries, np.int64),
    )


def tree_size(capacity: int) -> int:
    """Return the nodes of the tree above the priorities of one ring."""
    return 1 << (capacity - 1).bit_length()
