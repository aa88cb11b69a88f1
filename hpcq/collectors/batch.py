"""The environments of one rank as arrays.

A collector fills `reward`, `outcome`, `next_hash` and `final_hash` in each step; messages.py fills
the other arrays of a tick.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.fields import Field
from hpcq.spaces.masks import shape_of


class Outcome(IntEnum):
    """How a step ended. Only TERMINATED stops bootstrapping."""

    CONTINUES = 0
    TERMINATED = 1
    TRUNCATED = 2
    RESET = 3
    """no step: the environment has just been reset by hpcq"""


class EnvBatch(NamedTuple):
    """The state of every environment, as arrays (n,); masks of several words are (n, words)."""

    hash: NDArray[np.uint64]
    """of the current state"""
    action: NDArray[np.uint32]
    """to be taken there"""
    reward: NDArray[np.float64]
    next_hash: NDArray[np.uint64]
    """of the state to act in next"""
    final_hash: NDArray[np.uint64]
    """of the final state of an episode that has just been truncated"""
    next_owner: NDArray[np.uint32]
    """the rank that owns `next_hash`"""
    next_order: NDArray[np.uint32]
    """the environments, grouped by `next_owner`"""
    draw: NDArray[np.uint64]
    """for the next action"""
    outcome: NDArray[np.uint8]
    """of the last step, see `Outcome`"""
    update_pending: NDArray[np.bool_]
    """whether the next tick sends an update; these fields are of one-step returns"""
    update_hash: NDArray[np.uint64]
    update_owner: NDArray[np.uint32]
    """the rank that owns `update_hash`"""
    update_order: NDArray[np.uint32]
    """the environments, grouped by `update_owner`"""
    bootstrap: NDArray[np.float64]
    """discount * value of the state after the last step, also where that is terminal"""
    update_column: NDArray[np.uint32]
    """of the row: table * actions + action"""
    update_target: NDArray[np.float64]
    episode_return: NDArray[np.float64]
    """undiscounted, of the episode so far"""
    elapsed: NDArray[np.int32]
    """steps of the episode so far"""
    episodes: NDArray[np.int64]
    """ended so far"""
    mask: NDArray[np.uint64]
    """legal actions of `hash`; this and the other masks only where the environment delivers them"""
    next_mask: NDArray[np.uint64]
    """of `next_hash`"""
    final_mask: NDArray[np.uint64]
    """of `final_hash`"""
    update_mask: NDArray[np.uint64]
    """of `update_hash`"""
    update_weight: NDArray[np.float64]
    """factor of its learning rate; only where replay is prioritised"""

    @property
    def mask_words(self) -> int:
        """Words of a mask; 1 where there are none."""
        return self.mask.shape[1] if self.mask.ndim > 1 else 1


ENVIRONMENT_FIELDS = (
    Field("environments/key", "hash", "u8", bound="states"),
    Field("environments/action", "action", "i8", bound="actions"),
    Field("environments/elapsed", "elapsed", "i4"),
    Field("environments/episode_return", "episode_return", "f8"),
    Field("environments/episodes", "episodes", "i8"),
    Field("pending/present", "update_pending", "u1"),
    Field("pending/key", "update_hash", "u8", bound="states"),
    Field("pending/action", "update_column", "u4", bound="columns"),
    Field("pending/target", "update_target", "f8"),
)
MASK_FIELDS = (
    Field("environments/mask", "mask", "u8", ("words",), needs=("masks",)),
    Field("pending/mask", "update_mask", "u8", ("words",), needs=("masks",)),
)
# Of the replayed entries of a batch (see replay.py), as (n, ratio).
REPLAYED_FIELDS = (
    Field("replay/pending_present", "update_pending", "u1", ("ratio",), needs=("replay",)),
    Field("replay/pending_key", "update_hash", "u8", ("ratio",), "states", ("replay",)),
    Field("replay/pending_action", "update_column", "u4", ("ratio",), "columns", ("replay",)),
    Field("replay/pending_target", "update_target", "f8", ("ratio",), needs=("replay",)),
    Field(
        "replay/pending_mask", "update_mask", "u8", ("ratio", "words"), needs=("replay", "masks")
    ),
    Field("replay/pending_weight", "update_weight", "f8", ("ratio",), needs=("priorities",)),
)


def make_batch(count: int, mask_words: int = 0) -> EnvBatch:
    """Return the arrays of `count` environments, all zero."""
    steps = ("u8", "u4", "f8", "u8", "u8", "u4", "u4", "u8", "u1")
    updates = ("?", "u8", "u4", "u4", "f8", "u4", "f8")
    episodes = ("f8", "i4", "i8")
    masks = (np.dtype(("u8", shape_of(mask_words))),) * 4
    return EnvBatch(
        *(np.zeros(count, kind) for kind in (*steps, *updates, *episodes, *masks, "f8"))
    )


def view_of(arrays: Any, places: slice) -> Any:
    """Return the arrays of some of the environments, views: of `EnvBatch`, or of `Windows`."""
    return type(arrays)(*(column[places] for column in arrays))
