"""Step compiled environments whose state is continuous, and that are seen through bins.

Their states, unlike keys, are not in the records that a checkpoint holds. As with Python
environments, all episodes are cut (as truncated) at quiet ticks and start again from draws that
follow from (seed, environment, tick), in every run: there a saved run is brought back exactly.
"""

import numpy as np

from hpcq.collectors.actors import Actors, Outcome, make_actors
from hpcq.collectors.collector import Collector, Share, end_episode
from hpcq.envs.compiled import ContinuousEnvironment
from hpcq.hashing import Purpose, mix64, word_at
from hpcq.native.kernels import Direct, bind

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)
_TO_STEP, _TO_RESET = int(Purpose.STEP), int(Purpose.RESET)


def _step_all(actors, states, model, words, seed, tick, limit, quiet, tally):
    step_word, reset_word = word_at(seed, tick, _TO_STEP), word_at(seed, tick, _TO_RESET)
    for i in range(actors.hash.size):
        state = states[i]
        action = np.int64(actors.action[i])
        reward, terminated = step(model, state, action, mix64(step_word ^ words[i]))
        actors.reward[i] = reward
        actors.episode_return[i] += reward
        actors.elapsed[i] += 1
        ended = terminated or actors.elapsed[i] >= limit
        actors.outcome[i] = (
            _TERMINATED if terminated else _TRUNCATED if ended or quiet else _CONTINUES
        )
        if ended:
            end_episode(actors, i, tally)
        if ended or quiet:
            actors.final[i] = mix64(observe(model, state))
            reset(model, state, mix64(reset_word ^ words[i]))
            actors.episode_return[i] = 0.0
            actors.elapsed[i] = 0
        actors.next[i] = mix64(observe(model, state))


def _reset_all(actors, states, model, words, seed, tick):
    reset_word = word_at(seed, tick, _TO_RESET)
    for i in range(actors.hash.size):
        reset(model, states[i], mix64(reset_word ^ words[i]))
        actors.next[i] = mix64(observe(model, states[i]))
        actors.outcome[i] = _RESET


class ContinuousCollector(Collector):
    """A block of continuous environments, stepped in one kernel. See `Collector`."""

    def __init__(self, environment: ContinuousEnvironment, share: Share) -> None:
        super().__init__(share)
        self._states = np.zeros((share.count, environment.numbers))
        self._model = environment.model
        self._limit = environment.max_episode_steps or np.iinfo(np.int32).max
        parts = {"reset": environment.reset, "observe": environment.observe}
        self._step_all = Direct(bind(_step_all, step=environment.step, **parts))
        self._reset_all = Direct(bind(_reset_all, **parts))

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset(self.actors, 0)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.actors,
            self._states,
            self._model,
            self.words,
            self._seed,
            tick,
            self._limit,
            tick % self.quiet_every == 0,
            self.tally,
        )

    def restore(self, tick: int) -> None:
        """Restart every environment as at the quiet tick at which it was saved."""
        self._reset(make_actors(self.words.size), tick)

    def _reset(self, actors: Actors, tick: int) -> None:
        self._reset_all(actors, self._states, self._model, self.words, self._seed, tick)
