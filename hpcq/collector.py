"""Step the environments of one rank, one tick at a time; here the compiled ones.

Environments are numbered over the whole job; a rank holds a contiguous block. What environment
i does depends on the job and on i alone, never on the rank that holds it.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcq.actors import ACTOR
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.hashing import Purpose, environment_words, mix64, tick_word, unmix64
from hpcq.kernels import bind

EPISODES, RETURNS, LENGTHS = 0, 1, 2


def block(rank: int, ranks: int, count: int, unit: int = 1) -> tuple[int, int]:
    """Return (first environment, number) of a rank's contiguous block of `count` environments.

    Units of so many environments stay together.
    """
    units = count // unit
    start, end = rank * units // ranks, (rank + 1) * units // ranks
    return start * unit, (end - start) * unit


class Collector(Protocol):
    """What the learner needs of the environments of one rank."""

    actors: NDArray
    """records (n,) of `actors.ACTOR`"""
    words: NDArray[np.uint64]
    """(n,), see `hashing.environment_words`"""
    tally: NDArray[np.float64]
    """episodes ended, sum of their returns, sum of their lengths, since it was last cleared"""
    quiet_every: int
    """the job can be saved after ticks that are multiples of this"""

    @property
    def clipped(self) -> int:
        """Numbers of observations that were outside their bins' range, in this process."""

    def begin(self) -> None:
        """Reset every environment: tick 0."""

    def step(self, tick: int) -> None:
        """Take one step in every environment."""

    def restore(self, tick: int) -> None:
        """Bring the environments into the state in which `actors`, loaded, were saved."""

    def close(self) -> None:
        """Release the environments."""


def _step_all(actors, model, words, step_word, reset_word, limit, tally):
    for i in range(actors.size):
        actor = actors[i]
        key, reward, terminated = step(
            model, unmix64(actor.hash), actor.action, mix64(step_word ^ words[i])
        )
        actor.reward = reward
        actor.episode_return += reward
        actor.elapsed += 1
        truncated = limit > 0 and actor.elapsed >= limit
        if terminated or truncated:
            actor.outcome = 1 if terminated else 2
            actor.final = mix64(key)
            key = reset(model, mix64(reset_word ^ words[i]))
            tally[0] += 1
            tally[1] += actor.episode_return
            tally[2] += actor.elapsed
            actor.episodes += 1
            actor.episode_return = 0.0
            actor.elapsed = 0
        else:
            actor.outcome = 0
        actor.next = mix64(key)


def _reset_all(actors, model, words, reset_word):
    for i in range(actors.size):
        key = reset(model, mix64(reset_word ^ words[i]))
        actors[i].next = mix64(key)
        actors[i].outcome = 3


class CompiledCollector:
    """A block of compiled environments, stepped in one kernel. See `Collector`."""

    quiet_every = 1
    clipped = 0

    def __init__(
        self, environment: CompiledEnvironment, seed: np.uint64, start: int, count: int
    ) -> None:
        self.actors = np.zeros(count, ACTOR)
        self.words = environment_words(seed, start, count)
        self.tally = np.zeros(3)
        self._seed = seed
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._step_all = bind(_step_all, step=environment.step, reset=environment.reset)
        self._reset_all = bind(_reset_all, reset=environment.reset)

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset_all(
            self.actors, self._model, self.words, tick_word(self._seed, 0, Purpose.RESET)
        )

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.actors,
            self._model,
            self.words,
            tick_word(self._seed, tick, Purpose.STEP),
            tick_word(self._seed, tick, Purpose.RESET),
            self._limit,
            self.tally,
        )

    def restore(self, tick: int) -> None:
        """Do nothing: the records are all the state there is."""

    def close(self) -> None:
        """Do nothing."""
