"""Step compiled environments with a continuous state, of which the agent sees bins.

A checkpoint does not hold these states. As with Python environments, at every reset tick all
episodes end as truncated and restart from draws that follow from (seed, environment, tick), in
every run: a run saved there resumes exactly.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import EnvBlock, KernelCollector, end_episode
from hpcq.collectors.batch import Outcome, make_batch
from hpcq.envs.protocol import ContinuousEnvironment
from hpcq.hashing import mix64
from hpcq.jit.compiler import kernel
from hpcq.rng import Purpose, word_at

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


@functools.cache
def _make_step_all(step: Any, reset: Any, observe: Any) -> Any:
    """Return the kernel that steps every environment and resets those whose episodes ended.

    Its arguments:

    states        float64 (n, numbers), in and out
    limit         steps after which an episode is truncated
    reset_every   all episodes end after ticks that are multiples of this
    """

    @kernel
    def step_all(
        tick: int,
        batch: Any,
        states: NDArray[np.float64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
        episode_stats: NDArray[np.float64],
        limit: int,
        reset_every: int,
    ) -> None:
        reset_tick = tick % reset_every == 0
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


@functools.cache
def _make_reset_all(reset: Any, observe: Any) -> Any:
    """Return the kernel that resets every environment."""

    @kernel
    def reset_all(
        tick: int,
        batch: Any,
        states: NDArray[np.float64],
        model: Any,
        stream_ids: NDArray[np.uint64],
        seed: np.uint64,
    ) -> None:
        reset_word = word_at(seed, tick, _TO_RESET)
        for i in range(batch.hash.size):
            reset(model, states[i], mix64(reset_word ^ stream_ids[i]))
            batch.next_hash[i] = mix64(observe(model, states[i]))
            batch.outcome[i] = _RESET

    return reset_all


class ContinuousCollector(KernelCollector):
    """A block of continuous environments. See `Collector`."""

    def __init__(self, environment: ContinuousEnvironment, env_block: EnvBlock) -> None:
        reset, observe = environment.reset, environment.observe
        super().__init__(
            env_block,
            np.zeros((env_block.count, environment.numbers)),
            environment.model,
            _make_step_all(environment.step, reset, observe),
            _make_reset_all(reset, observe),
            (environment.max_episode_steps or np.iinfo(np.int32).max, env_block.reset_every),
        )

    @property
    def step_arguments(self) -> tuple[Any, ...]:
        """What the kernel gets beside the tick; every tick is a reset tick while one is cut."""
        *others, reset_every = super().step_arguments
        return (*others, 1 if self.cutting else reset_every)

    def restore(self, tick: int) -> None:
        """Restart every environment as at the reset tick at which it was saved."""
        batch = make_batch(self.stream_ids.size, self.batch.mask_words)
        self._reset(tick, batch, *self._inputs)
