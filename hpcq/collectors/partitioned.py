"""A rank's environments in several parts, each stepped on its own."""

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector
from hpcq.collectors.batch import make_batch, view_of


class PartitionedCollector(Collector):
    """Several collectors of consecutive environments as one. See `Collector`.

    The arrays of each part are a slice of the whole's.
    """

    def __init__(self, parts: list[Collector]) -> None:
        self.parts = parts
        self.episode_stats = np.zeros(3)
        self.stream_ids: NDArray[np.uint64] = np.concatenate([part.stream_ids for part in parts])
        self.batch = make_batch(self.stream_ids.size, parts[0].batch.mask_words)
        self.reset_every = parts[0].reset_every
        start = 0
        for part in parts:
            stop = start + part.stream_ids.size
            part.batch = view_of(self.batch, slice(start, stop))
            part.episode_stats = self.episode_stats
            start = stop

    @property
    def clipped(self) -> int:
        """Numbers of observations that were outside their bins' range, in this process."""
        return sum(part.clipped for part in self.parts)

    def take_info_stats(self) -> NDArray[np.float64]:
        """Return the `EpisodeInfos.stats` of all parts; clear them."""
        return np.sum([part.take_info_stats() for part in self.parts], axis=0)

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        for part in self.parts:
            part.begin()

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        for part in self.parts:
            part.step(tick)

    def restore(self, tick: int) -> None:
        """Put the environments into the states of `batch`, which was loaded as of this tick."""
        for part in self.parts:
            part.restore(tick)

    def close(self) -> None:
        """Release the environments."""
        for part in self.parts:
            part.close()
