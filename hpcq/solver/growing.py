"""An array that grows at its end, without a second one of its size on the way."""

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.memory import allocate, release

_FEWEST = 1024

# Numbers that are moved before the memory from which they come is given back.
_PIECE = 1 << 20


class Growing:
    """Hashes; of what is not written yet only addresses are taken.

    Attributes
    ----------
    all : ndarray
        uint64; another array after `reserve`
    """

    def __init__(self) -> None:
        self.all = _of(_FEWEST)

    def reserve(self, size: int) -> None:
        """Make room for so many."""
        if size <= self.all.size:
            return
        old, self.all = self.all, _of(max(size, 2 * self.all.size))
        for start in range(0, old.size, _PIECE):
            piece = old[start : start + _PIECE]
            self.all[start : start + piece.size] = piece
            release(piece)


def _of(size: int) -> NDArray[np.uint64]:
    return allocate(8 * size).view(np.uint64)
