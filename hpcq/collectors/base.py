"""What all collectors share: they step the environments of one rank, one tick at a time.

Environments are numbered over the whole job, and a rank holds a contiguous block of them. What
environment i does depends on the job and on i alone, never on the rank that holds it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import EnvBatch, make_batch
from hpcq.collectors.infos import EpisodeInfos
from hpcq.jit.compiler import PrecompiledCall, inlined
from hpcq.rng import streams_of

EPISODES, RETURNS, LENGTHS = 0, 1, 2


def block(rank: int, ranks: int, count: int, unit: int = 1) -> tuple[int, int]:
    """Return (first environment, number) of a rank's contiguous block of `count` environments.

    A block is a multiple of `unit` environments.
    """
    units = count // unit
    start, end = rank * units // ranks, (rank + 1) * units // ranks
    return start * unit, (end - start) * unit


def batch_of(start: int, count: int, batch: int, batches: int, unit: int = 1) -> NDArray[np.int64]:
    """Return the numbers of the environments of a block that belong to one of several batches.

    The units of the job belong to the batches in turn, whatever rank holds them.
    """
    numbers = np.arange(start, start + count)
    return numbers[numbers // unit % batches == batch]


@dataclass(frozen=True)
class EnvBlock:
    """Some environments of the job, and their random streams."""

    seed: np.uint64
    """a `rng.seed_word`"""
    numbers: NDArray[np.int64]
    """(n,), theirs in the job, ascending"""
    reset_every: int
    """ticks between reset ticks, for environments whose state cannot be saved"""
    mask_words: int = 0
    """of a mask; 0: they do not say which actions are legal"""

    @property
    def count(self) -> int:
        """How many there are."""
        return self.numbers.size


class Collector:
    """What the learner needs of the environments of one rank."""

    batch: EnvBatch
    stream_ids: NDArray[np.uint64]
    """(n,), see `rng.streams_of`"""
    episode_stats: NDArray[np.float64]
    """episodes ended, sum of their returns, sum of their lengths, since it was last cleared"""
    infos: EpisodeInfos
    """numbers of the environments' infos, where the job asks for some"""
    reset_every: int
    """the job can be saved after ticks that are multiples of this"""
    cutting = False
    """whether the next tick is a reset tick, too, whatever its number"""
    step_kernel: Any = None
    """takes a step, as ``step_kernel(tick, *step_arguments)``; None: `step` runs Python"""

    def __init__(self, env_block: EnvBlock) -> None:
        self.batch = make_batch(env_block.count, env_block.mask_words)
        self.stream_ids = streams_of(env_block.seed, env_block.numbers)
        self.episode_stats = np.zeros(3)
        self.infos = EpisodeInfos((), env_block.count)
        self.reset_every = env_block.reset_every
        self._seed = env_block.seed

    @property
    def clipped(self) -> int:
        """Numbers of observations that were outside their bins' range, in this process."""
        return 0

    def take_info_stats(self) -> NDArray[np.float64]:
        """Return the `EpisodeInfos.stats`; clear them."""
        stats = self.infos.stats.copy()
        self.infos.stats[:] = 0
        return stats

    @property
    def step_arguments(self) -> tuple[Any, ...]:
        """What `step_kernel` gets beside the tick."""
        return ()

    def resets_at(self, tick: int) -> bool:
        """Return whether the tick that is being stepped is a reset tick."""
        return self.cutting or tick % self.reset_every == 0

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        raise NotImplementedError

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        raise NotImplementedError

    def restore(self, tick: int) -> None:
        """Put the environments into the states of `batch`, which was loaded as of this tick."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the environments, if there is anything to release."""


class KernelCollector(Collector):
    """A block of environments that one kernel steps, and another one resets.

    Parameters
    ----------
    states
        of the environments, in and out.
    model
        of the environment.
    step_kernel, reset_kernel
        called as ``step_kernel(tick, *step_arguments)`` and ``reset_kernel(tick, batch, states,
        model, stream_ids, seed)``.
    more
        further arguments of the first: ``step_kernel(tick, batch, states, model, stream_ids, seed,
        episode_stats, *more)``.
    """

    def __init__(
        self,
        env_block: EnvBlock,
        states: NDArray,
        model: Any,
        step_kernel: Any,
        reset_kernel: Any,
        more: tuple[Any, ...],
    ) -> None:
        super().__init__(env_block)
        self.step_kernel = step_kernel
        self._states, self._more = states, more
        self._inputs = states, model, self.stream_ids, self._seed
        self._step, self._reset = PrecompiledCall(step_kernel), PrecompiledCall(reset_kernel)

    @property
    def step_arguments(self) -> tuple[Any, ...]:
        """What the kernel gets beside the tick."""
        return (self.batch, *self._inputs, self.episode_stats, *self._more)

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset(0, self.batch, *self._inputs)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step(tick, *self.step_arguments)


@inlined
def end_episode(batch: Any, i: Any, episode_stats: NDArray[np.float64]) -> None:
    """Count the episode of environment `i` as ended, and clear its return and length."""
    episode_stats[EPISODES] += 1
    episode_stats[RETURNS] += batch.episode_return[i]
    episode_stats[LENGTHS] += batch.elapsed[i]
    batch.episodes[i] += 1
    batch.episode_return[i] = 0.0
    batch.elapsed[i] = 0
