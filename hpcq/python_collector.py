"""Step Gymnasium environments one after the other, and keep hpcq's own cost small beside that.

The loop over the environments does nothing but step; keys, rewards and outcomes are made for all
of them at once. What goes wrong is looked for only when it has.
"""

import contextlib
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.actors import Outcome, make_actors
from hpcq.codec import Codec
from hpcq.envs import PythonEnvironment
from hpcq.errors import CheckpointError, EnvironmentFault
from hpcq.hashing import Purpose, environment_words, mix64, tick_word

# Sums of such rewards stay finite, also in float32.
MAX_REWARD = 1e30


class PythonCollector:
    """A block of Gymnasium environments. See `collector.Collector`.

    An environment's own state cannot be saved. At quiet ticks, every `quiet_every`, all episodes
    end as truncated and restart from seeds that follow from (seed, environment, tick), in every
    run: there a saved run is brought back exactly.

    Raises
    ------
    EnvironmentFault
        where an environment raises or breaks Gymnasium's contract, naming it, the tick, the
        episode and the action.
    """

    def __init__(
        self,
        environment: PythonEnvironment,
        seed: np.uint64,
        start: int,
        count: int,
        quiet_every: int,
    ) -> None:
        self.actors = make_actors(count)
        self.words = environment_words(seed, start, count)
        self.tally = np.zeros(3)
        self.quiet_every = quiet_every
        self._seed = seed
        self._start = start
        self._codec = Codec(environment.observation)
        self._id = environment.id
        self._actions = [np.int64(environment.action_start + a) for a in range(environment.actions)]
        self._tick = 0
        self._environments = [self._guard(i, "make", environment.make) for i in range(count)]

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._tick = 0
        seeds, everyone = self._seeds(), range(self.actors.hash.size)
        keys = self._reset(everyone, seeds)
        # The first one twice: what does not follow the seed could never be resumed.
        if not np.array_equal(self._reset(everyone[:1], seeds), keys[:1]):
            problem = f"seed {seeds[0]} gave two different first observations"
            raise self._fault(0, "reset", problem)
        self.actors.next[:] = mix64.py_func(keys)
        self.actors.outcome[:] = Outcome.RESET

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._tick = tick
        observations, rewards, terminated, truncated = self._step_all()
        actors = self.actors
        actors.reward[:] = self._numbers(rewards)
        actors.episode_return[:] += actors.reward
        actors.elapsed[:] += 1
        keys = self._encode(range(actors.hash.size), "step", observations)
        ended = terminated | truncated
        actors.outcome[:] = np.where(
            terminated, Outcome.TERMINATED, np.where(ended, Outcome.TRUNCATED, Outcome.CONTINUES)
        )
        if ended.any():
            actors.episodes[:] += ended
            self.tally += (
                ended.sum(),
                actors.episode_return[ended].sum(),
                actors.elapsed[ended].sum(),
            )
        actors.final[:] = mix64.py_func(keys)
        if tick % self.quiet_every == 0:
            actors.outcome[~ended] = Outcome.TRUNCATED
            keys = self._reset(range(actors.hash.size), self._seeds())
        elif ended.any():
            places = np.flatnonzero(ended)
            keys[places] = self._reset(places.tolist(), None)
        actors.next[:] = mix64.py_func(keys)

    def restore(self, tick: int) -> None:
        """Restart every environment as at the quiet tick at which it was saved."""
        self._tick = tick
        keys = self._reset(range(self.actors.hash.size), self._seeds())
        wrong = np.flatnonzero(mix64.py_func(keys) != self.actors.hash)
        if wrong.size:
            raise CheckpointError(
                f"environment {self._start + wrong[0]} ({self._id}) does not restart in the state "
                f"in which tick {tick} was saved; reset(seed=...) must decide the first "
                "observation, or the run cannot be resumed"
            )

    def close(self) -> None:
        """Close every environment; what goes wrong there no longer matters."""
        for environment in self._environments:
            with contextlib.suppress(Exception):
                environment.close()

    def _step_all(self) -> tuple[list, list, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return observations, rewards, terminated and truncated of all environments."""
        observations: list[Any] = []
        rewards: list[Any] = []
        terminations: list[bool] = []
        truncations: list[bool] = []
        actions = self._actions
        i, taken = -1, None
        try:
            for i, (environment, a) in enumerate(  # noqa: B007
                zip(self._environments, self.actors.action.tolist(), strict=True)
            ):
                taken = None
                taken = environment.step(actions[a])
                observation, reward, terminated, truncated, _ = taken
                observations.append(observation)
                rewards.append(reward)
                terminations.append(True if terminated else False)
                truncations.append(True if truncated else False)
        except (Exception, SystemExit) as error:
            if taken is None:
                raise self._raised(i, "step", error) from error
            raise self._fault(
                i,
                "step",
                f"returned {_shape(taken)}, expected (obs, reward, terminated, truncated, info): "
                f"{error}",
            ) from None
        return observations, rewards, np.array(terminations, bool), np.array(truncations, bool)

    def _numbers(self, rewards: list[Any]) -> NDArray[np.float64]:
        """Return the rewards as finite numbers, or name the first that is not one."""
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers = np.array(rewards, np.float64)
            if numbers.shape == (len(rewards),) and (np.abs(numbers) <= MAX_REWARD).all():
                return numbers
        for i, reward in enumerate(rewards):
            try:
                fine = abs(float(reward)) <= MAX_REWARD
            except (TypeError, ValueError, OverflowError):
                fine = False
            if not fine or np.ndim(reward) > 0:
                raise self._fault(
                    i,
                    "step",
                    f"reward {reward!r}, expected a finite number of at most {MAX_REWARD:g} "
                    "in size",
                )
        raise AssertionError("no reward is wrong, but all together are")

    def _encode(self, places: Any, what: str, observations: list[Any]) -> NDArray[np.uint64]:
        """Return the keys of the observations of the environments `places`."""
        keys = self._codec.encode_all(observations)
        if keys is not None:
            return keys
        for i, observation in zip(places, observations, strict=True):
            try:
                self._codec.encode(observation)
            except ValueError as error:
                problem = f"observation {observation!r} is not in the space: {error}"
                raise self._fault(i, what, problem) from None
        return np.array(
            [self._codec.encode(observation) for observation in observations], np.uint64
        )

    def _reset(self, places: Any, seeds: list[int] | None) -> NDArray[np.uint64]:
        """Reset the environments `places` and return the keys of their first observations."""
        observations = []
        for i in places:
            seed = None if seeds is None else seeds[i]
            found = self._guard(i, "reset", self._environments[i].reset, seed=seed)
            if not isinstance(found, tuple) or len(found) != 2:
                raise self._fault(i, "reset", f"returned {_shape(found)}, expected (obs, info)")
            observations.append(found[0])
        self.actors.elapsed[places] = 0
        self.actors.episode_return[places] = 0.0
        return self._encode(places, "reset", observations)

    def _seeds(self) -> list[int]:
        """Return the seeds of this tick: distinct for all environments of the job."""
        word = int(tick_word(self._seed, self._tick, Purpose.RESET))
        return [(word + self._start + i) & 0x7FFFFFFF for i in range(self.actors.hash.size)]

    def _guard(self, i: int, what: str, call: Callable, **kwargs: Any) -> Any:
        """Call the user's code; a failure names the place and keeps the user's traceback."""
        try:
            return call(**kwargs)
        except (Exception, SystemExit) as error:
            raise self._raised(i, what, error) from error

    def _raised(self, i: int, what: str, error: BaseException) -> EnvironmentFault:
        text = "".join(traceback.format_exception(error)).rstrip()
        return self._fault(i, what, f"raised\n{text}")

    def _fault(self, i: int, what: str, problem: str) -> EnvironmentFault:
        action = f", action {self._actions[self.actors.action[i]]}" if what == "step" else ""
        return EnvironmentFault(
            f"environment {self._start + i} ({self._id}), tick {self._tick}, "
            f"episode {self.actors.episodes[i]}{action}: {what}: {problem}"
        )


def _shape(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
