"""A rank's environments in several parts, which step at times of their own."""

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.actors import make_actors, part_of
from hpcq.collectors.collector import Collector


class Parts(Collector):
    """Collectors of neighbouring environments, to the rest of the program one; see `Collector`.

    Each part sees its slice of the arrays of all.
    """

    def __init__(self, parts: list[Collector]) -> None:
        self.parts = parts
        self.tally = np.zeros(3)
        self.words: NDArray[np.uint64] = np.concatenate([part.words for part in parts])
        self.actors = make_actors(self.words.size)
        self.quiet_every = parts[0].quiet_every
        start = 0
        for part in parts:
            stop = start + part.words.size
            part.actors = part_of(self.actors, slice(start, stop))
            part.tally = self.tally
            start = stop

    @property
    def clipped(self) -> int:
        """Numbers of observations that were outside their bins' range, in this process."""
        return sum(part.clipped for part in self.parts)

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        for part in self.parts:
            part.begin()

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        for part in self.parts:
            part.step(tick)

    def restore(self, tick: int) -> None:
        """Bring the environments into the state in which `actors`, loaded, were saved."""
        for part in self.parts:
            part.restore(tick)

    def close(self) -> None:
        """Release the environments."""
        for part in self.parts:
            part.close()
