"""Masks of legal actions, a number for each action, as bitsets of up to 64 bits; and back."""

import numpy as np
from numpy.typing import NDArray

BITS = 64


def bitsets(masks: NDArray) -> NDArray[np.uint64]:
    """Return masks (n, actions), 0: illegal, as uint64 (n,): bit a is action a."""
    powers = np.uint64(1) << np.arange(masks.shape[1], dtype=np.uint64)
    return (masks != 0).astype(np.uint64) @ powers


def legal_actions(bits: NDArray[np.uint64], actions: int) -> NDArray[np.bool_]:
    """Return bitsets (n,) as masks (n, actions); 0, no mask, permits all."""
    found = bits[:, None] >> np.arange(actions, dtype=np.uint64) & np.uint64(1)
    return (found != 0) | (bits == 0)[:, None]
