"""Step compiled environments whose state is continuous, and that are seen through bins.

Their states, unlike keys, are not in the records that a checkpoint holds. As with Python
environments, all episodes are cut (as truncated) at quiet ticks and start again from draws that
follow from (seed, environment, tick), in every run: there a saved run is brought back exactly.
"""

import numpy as np

from hpcq.collectors.base import Collector, EnvBlock, end_episode
from hpcq.collectors.batch import EnvBatch, Outcome, make_batch
from hpcq.envs.protocol import ContinuousEnvironment
from hpcq.hashing import mix64
from hpcq.jit.compiler import PrecompiledCall, bind
from hpcq.rng import Purpose, word_at

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def _step_all(batch, states, model, stream_ids, seed, tick, limit, quiet, episode_stats):
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
            _TERMINATED if terminated else _TRUNCATED if ended or quiet else _CONTINUES
        )
        if ended:
            end_episode(batch, i, episode_stats)
        if ended or quiet:
            batch.final[i] = mix64(observe(model, state))
            reset(model, state, mix64(reset_word ^ stream_ids[i]))
            batch.episode_return[i] = 0.0
            batch.elapsed[i] = 0
        batch.next[i] = mix64(observe(model, state))


def _reset_all(batch, states, model, stream_ids, seed, tick):
    reset_word = word_at(seed, tick, _TO_RESET)
    for i in range(batch.hash.size):
        reset(model, states[i], mix64(reset_word ^ stream_ids[i]))
        batch.next[i] = mix64(observe(model, states[i]))
        batch.outcome[i] = _RESET


class ContinuousCollector(Collector):
    """A block of continuous environments, stepped in one kernel. See `Collector`."""

    def __init__(self, environment: ContinuousEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self._states = np.zeros((env_block.count, environment.numbers))
        self._model = environment.model
        self._limit = environment.max_episode_steps or np.iinfo(np.int32).max
        parts = {"reset": environment.reset, "observe": environment.observe}
        self._step_all = PrecompiledCall(bind(_step_all, step=environment.step, **parts))
        self._reset_all = PrecompiledCall(bind(_reset_all, **parts))

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
        """Restart every environment as at the quiet tick at which it was saved."""
        self._reset(make_batch(self.stream_ids.size), tick)

    def _reset(self, batch: EnvBatch, tick: int) -> None:
        self._reset_all(batch, self._states, self._model, self.stream_ids, self._seed, tick)
