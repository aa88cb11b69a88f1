"""Masks of legal actions, a number for each action, as bitsets; and back.

Action a is bit a % 64 of word a // 64. Of up to 64 actions a mask is a single word, a uint64, and
an array of masks has no dimension for it; of more it is an array (words,).
"""

import numpy as np
from numpy.typing import NDArray

BITS = 64
MOST_ACTIONS = 1024


def words_of(actions: int, masked: bool = True) -> int:
    """Return how many uint64 a mask of so many actions is; 0 where there are none."""
    return -(-actions // BITS) if masked else 0


def shape_of(words: int) -> tuple[int, ...]:
    """Return the shape of a mask of so many words."""
    return (words,) if words > 1 else ()


def bitsets(masks: NDArray) -> NDArray[np.uint64]:
    """Return masks (n, actions), 0: illegal, as bitsets: uint64 (n,), or (n, words)."""
    n, actions = masks.shape
    words = words_of(actions)
    if words == 1:
        # Three times as fast as packing, of six actions.
        return (masks != 0).astype(np.uint64) @ (
            np.uint64(1) << np.arange(actions, dtype=np.uint64)
        )
    bits = np.zeros((n, words * BITS), np.bool_)
    np.not_equal(masks, 0, out=bits[:, :actions])
    packed = np.packbits(bits, axis=1, bitorder="little").view("<u8")
    return packed.astype(np.uint64, copy=False)


def legal_actions(bits: NDArray[np.uint64], actions: int) -> NDArray[np.bool_]:
    """Return bitsets (n,), or (n, words), as masks (n, actions); 0, no mask, permits all."""
    words = np.ascontiguousarray(bits.reshape(len(bits), words_of(actions)), "<u8")
    found = np.unpackbits(words.view(np.uint8), axis=1, count=actions, bitorder="little")
    return (found != 0) | ~words.any(axis=1, keepdims=True)
