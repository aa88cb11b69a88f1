"""Step the environments of one rank, one tick at a time; here the compiled ones.

Environments are numbered over the whole job; a rank holds a contiguous block. What environment
i does depends on the job and on i alone, never on the rank that holds it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import EnvBatch, Outcome, make_batch
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.hashing import MAX_HASH, mix64, unmix64
from hpcq.jit.compiler import PrecompiledCall, bind, inlined, kernel
from hpcq.rng import Purpose, environment_streams, word_at

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
class EnvBlock:
    """The environments `start` ... `start + count - 1` of the job, and what they draw from."""

    seed: np.uint64
    """a `rng.seed_word`"""
    start: int
    count: int
    reset_every: int
    """ticks between quiet ticks, for environments that need them"""


class Collector:
    """What the learner needs of the environments of one rank."""

    batch: EnvBatch
    stream_ids: NDArray[np.uint64]
    """(n,), see `rng.environment_streams`"""
    episode_stats: NDArray[np.float64]
    """episodes ended, sum of their returns, sum of their lengths, since it was last cleared"""
    reset_every: int
    """the job can be saved after ticks that are multiples of this"""

    def __init__(self, env_block: EnvBlock) -> None:
        self.batch = make_batch(env_block.count)
        self.stream_ids = environment_streams(env_block.seed, env_block.start, env_block.count)
        self.episode_stats = np.zeros(3)
        self.reset_every = env_block.reset_every
        self._seed = env_block.seed

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
        """Bring the environments into the state in which `batch`, loaded, were saved."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the environments, if there is anything to release."""


@kernel
def all_legal(model, key):
    """Return the bitset of every action."""
    return MAX_HASH


@inlined
def end_episode(batch, i, episode_stats):
    """Count the episode of environment `i` as ended; the next one begins from nothing."""
    episode_stats[EPISODES] += 1
    episode_stats[RETURNS] += batch.episode_return[i]
    episode_stats[LENGTHS] += batch.elapsed[i]
    batch.episodes[i] += 1
    batch.episode_return[i] = 0.0
    batch.elapsed[i] = 0


def _step_all(batch, model, stream_ids, seed, tick, limit, ended, episode_stats):
    """Take one step in every environment, and begin an episode where one has ended.

    ended    int64 (n + 1,), scratch
    """
    step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
    # Loops of their own, so that the compiler makes vector instructions of them. Until it is
    # stepped, an environment has its key in `next` and its draw in `final`.
    for i in range(batch.next.size):
        batch.next[i] = unmix64(batch.hash[i])
    for i in range(batch.final.size):
        batch.final[i] = mix64(step_word ^ stream_ids[i])
    for i in range(batch.next.size):
        key, reward, terminated = step(
            model, batch.next[i], np.int64(batch.action[i]), batch.final[i]
        )
        batch.next[i] = key
        batch.reward[i] = reward
        batch.outcome[i] = _TERMINATED if terminated else _CONTINUES
    for i in range(batch.next.size):
        batch.episode_return[i] += batch.reward[i]
        batch.elapsed[i] += 1
        late = limit > 0 and batch.elapsed[i] >= limit
        unless = _TRUNCATED if late else _CONTINUES
        batch.outcome[i] = _TERMINATED if batch.outcome[i] == _TERMINATED else unless
    # Noted without branches: which ones end cannot be predicted.
    count = 0
    for i in range(batch.outcome.size):
        ended[count] = i
        count += batch.outcome[i] != _CONTINUES
    for n in range(count):
        i = ended[n]
        key = batch.next[i]
        batch.final[i] = mix64(key)
        if MASKED:
            batch.final_mask[i] = legal(model, key)
        batch.next[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
        end_episode(batch, i, episode_stats)
    if MASKED:
        for i in range(batch.next.size):
            batch.next_mask[i] = legal(model, batch.next[i])
    for i in range(batch.next.size):
        batch.next[i] = mix64(batch.next[i])


def _reset_all(batch, model, stream_ids, seed, tick):
    reset_word = word_at(seed, tick, _TO_RESET)
    for i in range(batch.hash.size):
        key = reset(model, mix64(reset_word ^ stream_ids[i]))
        batch.next[i] = mix64(key)
        if MASKED:
            batch.next_mask[i] = legal(model, key)
        batch.outcome[i] = _RESET


class CompiledCollector(Collector):
    """A block of compiled environments, stepped in one kernel. See `Collector`."""

    def __init__(self, environment: CompiledEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self.reset_every = 1
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._ended = np.zeros(env_block.count + 1, np.int64)
        parts = {
            "reset": environment.reset,
            "legal": environment.legal if environment.masked else all_legal,
            "MASKED": environment.masked,
        }
        self._step_all = PrecompiledCall(bind(_step_all, step=environment.step, **parts))
        self._reset_all = PrecompiledCall(bind(_reset_all, **parts))

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset_all(self.batch, self._model, self.stream_ids, self._seed, 0)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.batch,
            self._model,
            self.stream_ids,
            self._seed,
            tick,
            self._limit,
            self._ended,
            self.episode_stats,
        )

    def restore(self, tick: int) -> None:
        """Do nothing: the records are all the state there is."""
