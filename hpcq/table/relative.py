"""Relative values: those of an average reward, known up to a number that is the same for all."""

import numpy as np
from numpy.typing import NDArray


class Gaps:
    """The differences of two tables' values, piece by piece: the least and the largest of them."""

    def __init__(self) -> None:
        self._least, self._most = np.inf, -np.inf

    def add(self, gaps: NDArray[np.float64]) -> None:
        """Add differences; one that is no number is as large as can be, to both sides."""
        self._least = min(self._least, float(np.nan_to_num(gaps, nan=-np.inf).min(initial=np.inf)))
        self._most = max(self._most, float(np.nan_to_num(gaps, nan=np.inf).max(initial=-np.inf)))

    @property
    def middle(self) -> float:
        """The number that makes the largest difference as small as can be when it is taken off."""
        return (self._least + self._most) / 2 if self._least <= self._most else 0.0

    def largest(self, relative: bool) -> float:
        """Return the largest difference; of relative values that which is left without `middle`."""
        if relative and self._least <= self._most:
            return (self._most - self._least) / 2
        return max(0.0, self._most, -self._least)
