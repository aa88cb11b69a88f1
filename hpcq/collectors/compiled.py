"""Step compiled environments: one kernel steps a whole block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, EnvBlock, end_episode
from hpcq.collectors.batch import Outcome
from hpcq.envs.protocol import CompiledEnvironment, all_legal
from hpcq.hashing import mix64, unmix64
from hpcq.jit.compiler import PrecompiledCall, kernel
from hpcq.rng import Purpose, word_at

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def _make_step_all(step: Any, reset: Any, legal: Any, masked: bool) -> Any:
    """Return the kernel that steps every environment and resets those whose episodes ended.

    Its arguments:

    limit    steps after which an episode is truncated; 0: never
    ended    int64 (n + 1,), scratch
    """

    @kernel
    def step_all(
        batch: Any,
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        tick: int,
        limit: int,
        ended: NDArray[np.int64],
        episode_stats: NDArray[np.float64],
    ) -> None:
        step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
        # Loops of their own, so that they vectorise. Until it is stepped, an environment has its
        # key in `next` and its draw in `final`.
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
        # Without branches: which episodes end cannot be predicted.
        count = 0
        for i in range(batch.outcome.size):
            ended[count] = i
            count += batch.outcome[i] != _CONTINUES
        for n in range(count):
            i = ended[n]
            key = batch.next[i]
            batch.final[i] = mix64(key)
            if masked:
                batch.final_mask[i] = legal(model, key)
            batch.next[i] = reset(model, mix64(reset_word ^ stream_ids[i]))
            end_episode(batch, i, episode_stats)
        if masked:
            for i in range(batch.next.size):
                batch.next_mask[i] = legal(model, batch.next[i])
        for i in range(batch.next.size):
            batch.next[i] = mix64(batch.next[i])

    return step_all


def _make_reset_all(reset: Any, legal: Any, masked: bool) -> Any:
    """Return the kernel that resets every environment."""

    @kernel
    def reset_all(
        batch: Any, model: Any, stream_ids: NDArray[np.uint64], seed: np.uint64, tick: int
    ) -> None:
        reset_word = word_at(seed, tick, _TO_RESET)
        for i in range(batch.hash.size):
            key = reset(model, mix64(reset_word ^ stream_ids[i]))
            batch.next[i] = mix64(key)
            if masked:
                batch.next_mask[i] = legal(model, key)
            batch.outcome[i] = _RESET

    return reset_all


class CompiledCollector(Collector):
    """A block of compiled environments. See `Collector`."""

    def __init__(self, environment: CompiledEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self.reset_every = 1
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._ended = np.zeros(env_block.count + 1, np.int64)
        masked, reset = environment.masked, environment.reset
        legal = environment.legal if masked else all_legal
        self._step_all = PrecompiledCall(_make_step_all(environment.step, reset, legal, masked))
        self._reset_all = PrecompiledCall(_make_reset_all(reset, legal, masked))

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
        """Do nothing: `batch` is the whole state."""
