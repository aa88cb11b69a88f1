"""Nim: take any number from one heap; who takes the last one wins.

Bouton, "Nim, a game with a complete mathematical theory", Annals of Mathematics 3, 1901: the
player to move wins if and only if the exclusive or of the heaps is not 0.

A position's key is the mixed-radix number of its heaps. Move ``heap * largest + take - 1`` takes
`take` from `heap`, `largest` being the largest heap at the start.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.bundled.mnk_game import GOES_ON, WON, bit
from hpcq.jit.compiler import kernel


class Heaps(NamedTuple):
    """The parameters of one game of Nim."""

    stride: NDArray[np.uint64]
    """(heaps,), place value of each heap in a key"""
    radix: NDArray[np.uint64]
    """(heaps,), size at the start plus one"""
    largest: int
    start: np.uint64
    loss: float
    """reward of losing"""
    best: NDArray[np.uint64]
    """(keys,), best moves as a bitset, for a perfect opponent; or empty"""


@kernel
def legal(model: Any, key: np.uint64) -> Any:
    """Return the bitset of the moves that the rules allow."""
    moves = np.uint64(0)
    for heap in range(model.stride.size):
        pieces = np.uint64(key) // model.stride[heap] % model.radix[heap]
        moves |= (bit(pieces) - np.uint64(1)) << np.uint64(heap * model.largest)
    return moves


@kernel
def play(model: Any, key: np.uint64, move: int) -> Any:
    """Return (key as the other player sees it, GOES_ON or WON) after a legal move."""
    heap, take = move // model.largest, move % model.largest + 1
    key = np.uint64(key) - np.uint64(take) * model.stride[heap]
    return key, WON if key == np.uint64(0) else GOES_ON
