"""Step the environments of one rank, one tick at a time; here the compiled ones.

Environments are numbered over the whole job; a rank holds a contiguous block. What environment
i does depends on the job and on i alone, never on the rank that holds it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.actors import Actors, Outcome, make_actors
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.hashing import MAX_HASH, Purpose, environment_words, mix64, unmix64, word_at
from hpcq.native.kernels import Direct, bind, inlined, kernel

EPISODES, RETURNS, LENGTHS = 0, 1, 2

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def block(rank: int, ranks: int, count: int, unit: int = 1) -> tuple[int, int]:
    """Return (first environment, number) of a rank's contiguous block of `count` environments.

    Units of so many environments stay together.
    """
    units = count // unit
    start, end = rank * units // ranks, (rank + 1) * units // ranks
    return start * unit, (end - start) * unit


@dataclass(frozen=True)
class Share:
    """The environments `start` ... `start + count - 1` of the job, and what they draw from."""

    seed: np.uint64
    """a `hashing.seed_word`"""
    start: int
    count: int
    quiet_every: int
    """ticks between quiet ticks, for environments that need them"""


class Collector:
    """What the learner needs of the environments of one rank."""

    actors: Actors
    words: NDArray[np.uint64]
    """(n,), see `hashing.environment_words`"""
    tally: NDArray[np.float64]
    """episodes ended, sum of their returns, sum of their lengths, since it was last cleared"""
    quiet_every: int
    """the job can be saved after ticks that are multiples of this"""

    def __init__(self, share: Share) -> None:
        self.actors = make_actors(share.count)
        self.words = environment_words(share.seed, share.start, share.count)
        self.tally = np.zeros(3)
        self.quiet_every = share.quiet_every
        self._seed = share.seed

    @property
    def clipped(self) -> int:
        """Numbers of observations that were outside their bins' range, in this process."""
        return 0

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        raise NotImplementedError

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        raise NotImplementedError

    def restore(self, tick: int) -> None:
        """Bring the environments into the state in which `actors`, loaded, were saved."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the environments, if there is anything to release."""


@kernel
def all_legal(model, key):
    """Return the bitset of every action."""
    return MAX_HASH


@inlined
def end_episode(actors, i, tally):
    """Count the episode of environment `i` as ended; the next one begins from nothing."""
    tally[EPISODES] += 1
    tally[RETURNS] += actors.episode_return[i]
    tally[LENGTHS] += actors.elapsed[i]
    actors.episodes[i] += 1
    actors.episode_return[i] = 0.0
    actors.elapsed[i] = 0


def _step_all(actors, model, words, seed, tick, limit, ended, tally):
    """Take one step in every environment, and begin an episode where one has ended.

    ended    int64 (n + 1,), scratch
    """
    step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
    # Loops of their own, so that the compiler makes vector instructions of them. Until it is
    # stepped, an environment has its key in `next` and its draw in `final`.
    for i in range(actors.next.size):
        actors.next[i] = unmix64(actors.hash[i])
    for i in range(actors.final.size):
        actors.final[i] = mix64(step_word ^ words[i])
    for i in range(actors.next.size):
        key, reward, terminated = step(
            model, actors.next[i], np.int64(actors.action[i]), actors.final[i]
        )
        actors.next[i] = key
        actors.reward[i] = reward
        actors.outcome[i] = _TERMINATED if terminated else _CONTINUES
    for i in range(actors.next.size):
        actors.episode_return[i] += actors.reward[i]
        actors.elapsed[i] += 1
        late = limit > 0 and actors.elapsed[i] >= limit
        unless = _TRUNCATED if late else _CONTINUES
        actors.outcome[i] = _TERMINATED if actors.outcome[i] == _TERMINATED else unless
    # Noted without branches: which ones end cannot be predicted.
    count = 0
    for i in range(actors.outcome.size):
        ended[count] = i
        count += actors.outcome[i] != _CONTINUES
    for n in range(count):
        i = ended[n]
        key = actors.next[i]
        actors.final[i] = mix64(key)
        if MASKED:
            actors.final_mask[i] = legal(model, key)
        actors.next[i] = reset(model, mix64(reset_word ^ words[i]))
        end_episode(actors, i, tally)
    if MASKED:
        for i in range(actors.next.size):
            actors.next_mask[i] = legal(model, actors.next[i])
    for i in range(actors.next.size):
        actors.next[i] = mix64(actors.next[i])


def _reset_all(actors, model, words, seed, tick):
    reset_word = word_at(seed, tick, _TO_RESET)
    for i in range(actors.hash.size):
        key = reset(model, mix64(reset_word ^ words[i]))
        actors.next[i] = mix64(key)
        if MASKED:
            actors.next_mask[i] = legal(model, key)
        actors.outcome[i] = _RESET


class CompiledCollector(Collector):
    """A block of compiled environments, stepped in one kernel. See `Collector`."""

    def __init__(self, environment: CompiledEnvironment, share: Share) -> None:
        super().__init__(share)
        self.quiet_every = 1
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._ended = np.zeros(share.count + 1, np.int64)
        parts = {
            "reset": environment.reset,
            "legal": environment.legal if environment.masked else all_legal,
            "MASKED": environment.masked,
        }
        self._step_all = Direct(bind(_step_all, step=environment.step, **parts))
        self._reset_all = Direct(bind(_reset_all, **parts))

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset_all(self.actors, self._model, self.words, self._seed, 0)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.actors,
            self._model,
            self.words,
            self._seed,
            tick,
            self._limit,
            self._ended,
            self.tally,
        )

    def restore(self, tick: int) -> None:
        """Do nothing: the records are all the state there is."""
