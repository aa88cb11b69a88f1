"""The past transitions of every environment as arrays, and how a checkpoint holds them.

`Windows` serve n-step returns (n_step.py), `Rings` replay (replay.py), `Priorities` prioritised
replay (priorities.py). This file has no kernels: the process that checks the structure of a
checkpoint imports it, and loads no numba.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.fields import Field
from hpcq.spaces.masks import shape_of


class Windows(NamedTuple):
    """The last transitions of every environment, oldest first; (n, 0) for one-step returns."""

    hash: NDArray[np.uint64]
    """(n, steps)"""
    action: NDArray[np.uint32]
    """(n, steps)"""
    reward: NDArray[np.float64]
    """(n, steps)"""
    value: NDArray[np.float64]
    """(n, steps), bootstrap value of the state after each"""
    target: NDArray[np.float64]
    """(n, steps), of those that are due: their returns"""
    mask: NDArray[np.uint64]
    """(n, steps), or (n, steps, words)"""
    length: NDArray[np.uint32]
    """(n,), transitions in the window"""
    due: NDArray[np.uint32]
    """(n,), how many of them, from the oldest on, are sent as updates by the next tick"""
    offset: NDArray[np.uint32]
    """(n,), column of action 0 in the table that these update"""


WINDOW_FIELDS = (
    Field("windows/key", "hash", "u8", ("steps",), "states", ("n_step",)),
    Field("windows/action", "action", "u4", ("steps",), "actions", ("n_step",)),
    Field("windows/reward", "reward", "f8", ("steps",), needs=("n_step",)),
    Field("windows/value", "value", "f8", ("steps",), needs=("n_step",)),
    Field("windows/target", "target", "f8", ("steps",), needs=("n_step",)),
    Field("windows/mask", "mask", "u8", ("steps", "words"), needs=("n_step",)),
    Field("windows/length", "length", "u4", (), "lengths", ("n_step",)),
    Field("windows/due", "due", "u4", (), "lengths", ("n_step",)),
    Field("windows/offset", "offset", "u4", (), "offsets", ("n_step",)),
)


def make_windows(count: int, steps: int, mask_words: int = 0) -> Windows:
    """Return the empty windows of `count` environments."""
    shape = (count, steps if steps > 1 else 0)
    kinds = ("u8", "u4", "f8", "f8", "f8", np.dtype(("u8", shape_of(mask_words))))
    return Windows(
        *(np.zeros(shape, kind) for kind in kinds), *(np.zeros(count, "u4") for _ in range(3))
    )


class Rings(NamedTuple):
    """The latest transitions of every environment: arrays (n, capacity), but for `added`.

    Masks of several words are (n, capacity, words).
    """

    hash: NDArray[np.uint64]
    action: NDArray[np.uint32]
    reward: NDArray[np.float64]
    next_hash: NDArray[np.uint64]
    """of the state it led to: the final one where the episode was truncated"""
    terminated: NDArray[np.uint8]
    mask: NDArray[np.uint64]
    """legal actions of `hash`; this and `next_mask` are (n, 0) where there are none"""
    next_mask: NDArray[np.uint64]
    """of `next_hash`"""
    added: NDArray[np.int64]
    """(n,), transitions so far; number k is in slot k modulo the capacity"""


RING_FIELDS = (
    Field("replay/key", "hash", "u8", ("capacity",), "states", ("replay",)),
    Field("replay/action", "action", "u4", ("capacity",), "actions", ("replay",)),
    Field("replay/reward", "reward", "f8", ("capacity",), needs=("replay",)),
    Field("replay/next", "next_hash", "u8", ("capacity",), "states", ("replay",)),
    Field("replay/terminated", "terminated", "u1", ("capacity",), needs=("replay",)),
    Field("replay/mask", "mask", "u8", ("capacity", "words"), needs=("replay", "masks")),
    Field("replay/next_mask", "next_mask", "u8", ("capacity", "words"), needs=("replay", "masks")),
    Field("replay/count", "added", "i8", (), "counts", ("replay",)),
)


def ring_size(capacity: int, environments: int) -> int:
    """Return how many transitions the ring of one environment holds."""
    return -(-capacity // environments)


def make_rings(count: int, capacity: int, mask_words: int) -> Rings:
    """Return empty rings; `mask_words`: of a mask, 0 where there are none."""
    kinds = ("u8", "u4", "f8", "u8", "u1")
    arrays: list[Any] = [np.zeros((count, capacity), kind) for kind in kinds]
    masks = count, capacity if mask_words else 0, *shape_of(mask_words)
    arrays += [np.zeros(masks, np.uint64) for _ in range(2)]
    arrays.append(np.zeros(count, np.int64))
    return Rings(*arrays)


class Priorities(NamedTuple):
    """The priorities of every environment's ring as a sum tree, and what was drawn by them.

    Node k of a tree has the children 2 k and 2 k + 1; node 1 is the root. Nodes from `size`, a
    power of two, on are the leaves, `value`, so `sums` leaves them out.
    """

    value: NDArray[np.uint32]
    """(n, capacity), priority of the transition in each slot; 0: its error is not known yet"""
    sums: NDArray[np.uint64]
    """(n, size), sum of the values below each node; not saved but computed from them"""
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
