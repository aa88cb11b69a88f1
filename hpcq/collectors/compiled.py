"""Step compiled environments: one kernel steps a whole block."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import EnvBlock, KernelCollector, end_episode
from hpcq.collectors.batch import Outcome
from hpcq.envs.protocol import CompiledEnvironment, make_ask_legal
from hpcq.hashing import keys_of, mix64
from hpcq.jit.compiler import kernel
from hpcq.rng import Purpose, word_at
from hpcq.spaces.masks import words_of

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


@functools.cache
def _make_step_all(step: Any, reset: Any, legal: Any, mask_words: int) -> Any:
    """Return the kernel that steps every environment and resets those whose episodes ended.

    With `mask_words`, it asks `legal` for masks of so many words. Its arguments:

    keys     uint64 (n,), in and out: the states of the environments
    limit    steps after which an episode is truncated; 0: never
    draws    uint64 (n,), scratch
    ended    int64 (n + 1,), scratch
    """
    ask_legal = make_ask_legal(legal, mask_words)

    @kernel
    def step_all(
        tick: int,
        batch: Any,
        keys: NDArray[np.uint64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        episode_stats: NDArray[np.float64],
        limit: int,
        draws: NDArray[np.uint64],
        ended: NDArray[np.int64],
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
            if mask_words:
                ask_legal(model, keys[i], batch.final_mask, i)
            keys[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
            end_episode(batch, i, episode_stats)
        if mask_words:
            for i in range(keys.size):
                ask_legal(model, keys[i], batch.next_mask, i)
        for i in range(keys.size):
            batch.next_hash[i] = mix64(keys[i])

    return step_all


@functools.cache
def _make_reset_all(reset: Any, legal: Any, mask_words: int) -> Any:
    """Return the kernel that resets every environment."""
    ask_legal = make_ask_legal(legal, mask_words)

    @kernel
    def reset_all(
        tick: int,
        batch: Any,
        keys: NDArray[np.uint64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
    ) -> None:
        reset_word = word_at(seed, tick, _TO_RESET)
        for i in range(keys.size):
            keys[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
            batch.next_hash[i] = mix64(keys[i])
            if mask_words:
                ask_legal(model, keys[i], batch.next_mask, i)
            batch.outcome[i] = _RESET

    return reset_all


class CompiledCollector(KernelCollector):
    """A block of compiled environments. See `Collector`."""

    def __init__(self, environment: CompiledEnvironment, env_block: EnvBlock) -> None:
        count, reset, legal = env_block.count, environment.reset, environment.legal
        words = words_of(environment.actions, environment.masked)
        super().__init__(
            env_block,
            np.zeros(count, np.uint64),
            environment.model,
            _make_step_all(environment.step, reset, legal, words),
            _make_reset_all(reset, legal, words),
            (
                environment.max_episode_steps or 0,
                np.zeros(count, np.uint64),
                np.zeros(count + 1, np.int64),
            ),
        )
        self.reset_every = 1

    def restore(self, tick: int) -> None:
        """Put the environments into the states of `batch`, which was loaded as of this tick."""
        self._states[:] = keys_of(np.ascontiguousarray(self.batch.hash))
