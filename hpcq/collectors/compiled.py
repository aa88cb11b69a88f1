"""Step compiled environments: one kernel steps a whole block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, EnvBlock, end_episode
from hpcq.collectors.batch import Outcome
from hpcq.envs.protocol import CompiledEnvironment, all_legal
from hpcq.hashing import keys_of, mix64
from hpcq.jit.compiler import PrecompiledCall, kernel
from hpcq.rng import Purpose, word_at

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def _make_step_all(step: Any, reset: Any, legal: Any, masked: bool) -> Any:
    """Return the kernel that steps every environment and resets those whose episodes ended.

    Its arguments:

    keys     uint64 (n,), in and out: the states of the environments
    limit    steps after which an episode is truncated; 0: never
    draws    uint64 (n,), scratch
    ended    int64 (n + 1,), scratch
    """

    @kernel
    def step_all(
        batch: Any,
        keys: NDArray[np.uint64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        tick: int,
        limit: int,
        draws: NDArray[np.uint64],
        ended: NDArray[np.int64],
        episode_stats: NDArray[np.float64],
    ) -> None:
        step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
        # Loops of their own, so that they vectorise.
        for i in range(keys.size):
            draws[i] = mix64(step_word ^ stream_ids[i])
        for i in range(keys.size):
            key, reward, terminated = step(model, keys[i], np.int64(batch.action[i]), draws[i])
            keys[i] = key
            batch.reward[i] = reward
            batch.outcome[i] = _TERMINATED if terminated else _CONTINUES
        for i in range(keys.size):
            batch.episode_return[i] += batch.reward[i]
            batch.elapsed[i] += 1
            late = limit > 0 and batch.elapsed[i] >= limit
            unless = _TRUNCATED if late else _CONTINUES
            batch.outcome[i] = _TERMINATED if batch.outcome[i] == _TERMINATED else unless
        # Without branches: which episodes end cannot be predicted.
        count = 0
        for i in range(keys.size):
            ended[count] = i
            count += batch.outcome[i] != _CONTINUES
        for n in range(count):
            i = ended[n]
            batch.final_hash[i] = mix64(keys[i])
            if masked:
                batch.final_mask[i] = legal(model, keys[i])
            keys[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
            end_episode(batch, i, episode_stats)
        if masked:
            for i in range(keys.size):
                batch.next_mask[i] = legal(model, keys[i])
        for i in range(keys.size):
            batch.next_hash[i] = mix64(keys[i])

    return step_all


def _make_reset_all(reset: Any, legal: Any, masked: bool) -> Any:
    """Return the kernel that resets every environment."""

    @kernel
    def reset_all(
        batch: Any,
        keys: NDArray[np.uint64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        tick: int,
    ) -> None:
        reset_word = word_at(seed, tick, _TO_RESET)
        for i in range(keys.size):
            keys[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
            batch.next_hash[i] = mix64(keys[i])
            if masked:
                batch.next_mask[i] = legal(model, keys[i])
            batch.outcome[i] = _RESET

    return reset_all


class CompiledCollector(Collector):
    """A block of compiled environments. See `Collector`."""

    def __init__(self, environment: CompiledEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self.reset_every = 1
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._keys = np.zeros(env_block.count, np.uint64)
        self._draws = np.zeros(env_block.count, np.uint64)
        self._ended = np.zeros(env_block.count + 1, np.int64)
        masked, reset = environment.masked, environment.reset
        legal = environment.legal if masked else all_legal
        self._step_all = PrecompiledCall(_make_step_all(environment.step, reset, legal, masked))
        self._reset_all = PrecompiledCall(_make_reset_all(reset, legal, masked))

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset_all(self.batch, self._keys, self._model, self.stream_ids, self._seed, 0)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.batch,
            self._keys,
            self._model,
            self.stream_ids,
            self._seed,
            tick,
            self._limit,
            self._draws,
            self._ended,
            self.episode_stats,
        )

    def restore(self, tick: int) -> None:
        """Put the environments into the states of `batch`, which was loaded as of this tick."""
        self._keys[:] = keys_of(np.ascontiguousarray(self.batch.hash))
