"""Step compiled environments with a continuous state, of which the agent sees bins.

A checkpoint does not hold these states. As with Python environments, at every reset tick all
episodes end as truncated and restart from draws that follow from (seed, environment, tick), in
every run: a run saved there resumes exactly.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, EnvBlock, end_episode
from hpcq.collectors.batch import EnvBatch, Outcome, make_batch
from hpcq.envs.protocol import ContinuousEnvironment
from hpcq.hashing import mix64
from hpcq.jit.compiler import PrecompiledCall, kernel
from hpcq.rng import Purpose, word_at

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def _make_step_all(step: Any, reset: Any, observe: Any) -> Any:
    """Return the kernel that steps every environment and resets those whose episodes ended.

    Its arguments:

    states        float64 (n, numbers), in and out
    limit         steps after which an episode is truncated
    reset_tick    whether all episodes end now
    """

    @kernel
    def step_all(
        batch: Any,
        states: NDArray[np.float64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        tick: int,
        limit: int,
        reset_tick: bool,
        episode_stats: NDArray[np.float64],
    ) -> None:
        step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
        for i in range(batch.hash.size):
            state = states[i]
            action = np.int64(batch.action[i])
            reward, terminated = step(model, state, action, mix64(step_word ^ stream_ids[i]))
            batch.reward[i] = reward
            batch.episode_return[i] += reward
            batch.elapsed[i] += 1
            ended = terminated or batch.elapsed[i] >= limit
            batch.outcome[i] = (
                _TERMINATED if terminated else _TRUNCATED if ended or reset_tick else _CONTINUES
            )
            if ended:
                end_episode(batch, i, episode_stats)
            if ended or reset_tick:
                batch.final_hash[i] = mix64(observe(model, state))
                reset(model, state, mix64(reset_word ^ stream_ids[i]))
                batch.episode_return[i] = 0.0
                batch.elapsed[i] = 0
            batch.next_hash[i] = mix64(observe(model, state))

    return step_all


def _make_reset_all(reset: Any, observe: Any) -> Any:
    """Return the kernel that resets every environment."""

    @kernel
    def reset_all(
        batch: Any,
        states: NDArray[np.float64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        tick: int,
    ) -> None:
        reset_word = word_at(seed, tick, _TO_RESET)
        for i in range(batch.hash.size):
            reset(model, states[i], mix64(reset_word ^ stream_ids[i]))
            batch.next_hash[i] = mix64(observe(model, states[i]))
            batch.outcome[i] = _RESET

    return reset_all


class ContinuousCollector(Collector):
    """A block of continuous environments. See `Collector`."""

    def __init__(self, environment: ContinuousEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self._states = np.zeros((env_block.count, environment.numbers))
        self._model = environment.model
        self._limit = environment.max_episode_steps or np.iinfo(np.int32).max
        reset, observe = environment.reset, environment.observe
        self._step_all = PrecompiledCall(_make_step_all(environment.step, reset, observe))
        self._reset_all = PrecompiledCall(_make_reset_all(reset, observe))

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset(self.batch, 0)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.batch,
            self._states,
            self._model,
            self.stream_ids,
            self._seed,
            tick,
            self._limit,
            tick % self.reset_every == 0,
            self.episode_stats,
        )

    def restore(self, tick: int) -> None:
        """Restart every environment as at the reset tick at which it was saved."""
        self._reset(make_batch(self.stream_ids.size), tick)

    def _reset(self, batch: EnvBatch, tick: int) -> None:
        self._reset_all(batch, self._states, self._model, self.stream_ids, self._seed, tick)
