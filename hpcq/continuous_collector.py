"""Step compiled environments whose state is continuous, and that are seen through bins.

Their states, unlike keys, are not in the records that a checkpoint holds. As with Python
environments, all episodes are cut (as truncated) at quiet ticks and start again from draws that
follow from (seed, environment, tick), in every run: there a saved run is brought back exactly.
"""

import numpy as np

from hpcq.actors import ACTOR
from hpcq.envs.compiled import ContinuousEnvironment
from hpcq.hashing import Purpose, environment_words, mix64, tick_word
from hpcq.kernels import bind


def _step_all(actors, states, model, words, step_word, reset_word, limit, quiet, tally):
    for i in range(actors.size):
        actor, state = actors[i], states[i]
        reward, terminated = step(model, state, actor.action, mix64(step_word ^ words[i]))
        actor.reward = reward
        actor.episode_return += reward
        actor.elapsed += 1
        ended = terminated or actor.elapsed >= limit
        actor.outcome = 1 if terminated else 2 if ended or quiet else 0
        if ended:
            tally[0] += 1
            tally[1] += actor.episode_return
            tally[2] += actor.elapsed
            actor.episodes += 1
        if ended or quiet:
            actor.final = mix64(observe(model, state))
            reset(model, state, mix64(reset_word ^ words[i]))
            actor.episode_return = 0.0
            actor.elapsed = 0
        actor.next = mix64(observe(model, state))


def _reset_all(actors, states, model, words, reset_word):
    for i in range(actors.size):
        reset(model, states[i], mix64(reset_word ^ words[i]))
        actors[i].next = mix64(observe(model, states[i]))
        actors[i].outcome = 3


class ContinuousCollector:
    """A block of continuous environments, stepped in one kernel. See `collector.Collector`."""

    def __init__(
        self,
        environment: ContinuousEnvironment,
        seed: np.uint64,
        start: int,
        count: int,
        quiet_every: int,
    ) -> None:
        self.actors = np.zeros(count, ACTOR)
        self.words = environment_words(seed, start, count)
        self.tally = np.zeros(3)
        self.quiet_every = quiet_every
        self._states = np.zeros((count, environment.numbers))
        self._seed = seed
        self._model = environment.model
        self._limit = environment.max_episode_steps or np.iinfo(np.int32).max
        parts = {"reset": environment.reset, "observe": environment.observe}
        self._step_all = bind(_step_all, step=environment.step, **parts)
        self._reset_all = bind(_reset_all, **parts)

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
            tick_word(self._seed, tick, Purpose.STEP),
            tick_word(self._seed, tick, Purpose.RESET),
            self._limit,
            tick % self.quiet_every == 0,
            self.tally,
        )

    def restore(self, tick: int) -> None:
        """Restart every environment as at the quiet tick at which it was saved."""
        self._reset(np.zeros_like(self.actors), tick)

    def _reset(self, actors: np.ndarray, tick: int) -> None:
        word = tick_word(self._seed, tick, Purpose.RESET)
        self._reset_all(actors, self._states, self._model, self.words, word)

    def close(self) -> None:
        """Do nothing."""
