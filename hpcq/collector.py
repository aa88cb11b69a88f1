"""Step the environments of one rank, one tick at a time: compiled ones, or Gymnasium's.

Environments are numbered over the whole job; a rank holds a contiguous block. What environment
i does depends on the job and on i alone, never on the rank that holds it.
"""

import contextlib
import traceback
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcq.actors import ACTOR, Outcome
from hpcq.codec import Codec
from hpcq.envs import PythonEnvironment
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.errors import CheckpointError, EnvironmentFault
from hpcq.hashing import Purpose, environment_words, mix64, tick_word, unmix64
from hpcq.kernels import bind

# Sums of such rewards stay finite, also in float32.
MAX_REWARD = 1e30

EPISODES, RETURNS, LENGTHS = 0, 1, 2


def block(rank: int, ranks: int, count: int) -> tuple[int, int]:
    """Return (first environment, number) of a rank's contiguous block of `count` environments."""
    start, end = rank * count // ranks, (rank + 1) * count // ranks
    return start, end - start


class Collector(Protocol):
    """What the learner needs of the environments of one rank."""

    actors: NDArray
    """records (n,) of `actors.ACTOR`"""
    words: NDArray[np.uint64]
    """(n,), see `hashing.environment_words`"""
    tally: NDArray[np.float64]
    """episodes ended, sum of their returns, sum of their lengths, since it was last cleared"""
    quiet_every: int
    """the job can be saved after ticks that are multiples of this"""

    def begin(self) -> None:
        """Reset every environment: tick 0."""

    def step(self, tick: int) -> None:
        """Take one step in every environment."""

    def restore(self, tick: int) -> None:
        """Bring the environments into the state in which `actors`, loaded, were saved."""

    def close(self) -> None:
        """Release the environments."""


def _step_all(actors, model, words, step_word, reset_word, limit, tally):
    for i in range(actors.size):
        actor = actors[i]
        key, reward, terminated = step(  # noqa: F821
            model, unmix64(actor.hash), actor.action, mix64(step_word ^ words[i])
        )
        actor.reward = reward
        actor.episode_return += reward
        actor.elapsed += 1
        truncated = limit > 0 and actor.elapsed >= limit
        if terminated or truncated:
            actor.outcome = 1 if terminated else 2
            actor.final = mix64(key)
            key = reset(model, mix64(reset_word ^ words[i]))  # noqa: F821
            tally[0] += 1
            tally[1] += actor.episode_return
            tally[2] += actor.elapsed
            actor.episodes += 1
            actor.episode_return = 0.0
            actor.elapsed = 0
        else:
            actor.outcome = 0
        actor.next = mix64(key)


def _reset_all(actors, model, words, reset_word):
    for i in range(actors.size):
        key = reset(model, mix64(reset_word ^ words[i]))  # noqa: F821
        actors[i].next = mix64(key)
        actors[i].outcome = 3


class CompiledCollector:
    """A block of compiled environments, stepped in one kernel. See `Collector`."""

    quiet_every = 1

    def __init__(
        self, environment: CompiledEnvironment, seed: np.uint64, start: int, count: int
    ) -> None:
        self.actors = np.zeros(count, ACTOR)
        self.words = environment_words(seed, start, count)
        self.tally = np.zeros(3)
        self._seed = seed
        self._model = environment.model
        self._limit = environment.max_episode_steps or 0
        self._step_all = bind(_step_all, step=environment.step, reset=environment.reset)
        self._reset_all = bind(_reset_all, reset=environment.reset)

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._reset_all(
            self.actors, self._model, self.words, tick_word(self._seed, 0, Purpose.RESET)
        )

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._step_all(
            self.actors,
            self._model,
            self.words,
            tick_word(self._seed, tick, Purpose.STEP),
            tick_word(self._seed, tick, Purpose.RESET),
            self._limit,
            self.tally,
        )

    def restore(self, tick: int) -> None:
        """Do nothing: the records are all the state there is."""

    def close(self) -> None:
        """Do nothing."""


class PythonCollector:
    """A block of Gymnasium environments, stepped one after the other. See `Collector`.

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
        self.actors = np.zeros(count, ACTOR)
        self.words = environment_words(seed, start, count)
        self.tally = np.zeros(3)
        self.quiet_every = quiet_every
        self._seed = seed
        self._start = start
        self._codec = Codec(environment.observation)
        self._id = environment.id
        self._actions = [np.int64(environment.action_start + a) for a in range(environment.actions)]
        self._environments = [self._guard(i, 0, "make", environment.make) for i in range(count)]

    def _fault(self, i: int, tick: int, what: str, problem: str) -> EnvironmentFault:
        actor = self.actors[i]
        action = f", action {self._actions[actor['action']]}" if what == "step" else ""
        return EnvironmentFault(
            f"environment {self._start + i} ({self._id}), tick {tick}, "
            f"episode {actor['episodes']}{action}: {what}: {problem}"
        )

    def _guard(self, i: int, tick: int, what: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the user's code; a failure names the place and keeps the user's traceback."""
        try:
            return call(*args, **kwargs)
        except (Exception, SystemExit) as error:
            text = "".join(traceback.format_exception(error)).rstrip()
            raise self._fault(i, tick, what, f"raised\n{text}") from error

    def _encode(self, i: int, tick: int, what: str, observation: Any) -> np.uint64:
        try:
            return np.uint64(self._codec.encode(observation))
        except ValueError as error:
            raise self._fault(
                i, tick, what, f"observation {observation!r} is not in the space: {error}"
            ) from None

    def _reset(self, i: int, tick: int, seed: int | None) -> np.uint64:
        found = self._guard(i, tick, "reset", self._environments[i].reset, seed=seed)
        if not isinstance(found, tuple) or len(found) != 2:
            raise self._fault(
                i, tick, "reset", f"returned {type(found).__name__}, expected (obs, info)"
            )
        self.actors[i]["elapsed"] = 0
        self.actors[i]["episode_return"] = 0.0
        return self._encode(i, tick, "reset", found[0])

    def _plain(self, i: int, tick: int, taken: tuple) -> tuple[Any, float, bool, bool]:
        """Return what step gave with a number and two truth values, or say why that cannot be."""
        observation, reward, terminated, truncated, _ = taken
        try:
            number, ended, cut = float(reward), bool(terminated), bool(truncated)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._fault(
                i,
                tick,
                "step",
                f"reward {reward!r}, terminated {terminated!r}, truncated {truncated!r}: "
                f"expected a number and two truth values ({error})",
            ) from None
        if not abs(number) <= MAX_REWARD:
            raise self._fault(
                i,
                tick,
                "step",
                f"reward {reward}, expected a finite number of at most {MAX_REWARD:g} in size",
            )
        return observation, number, ended, cut

    def _seeds(self, tick: int) -> list[int]:
        word = int(tick_word(self._seed, tick, Purpose.RESET))
        n = self.actors.size
        return [(word + self._start + i) & 0x7FFFFFFF for i in range(n)]

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        seeds = self._seeds(0)
        # The first one twice: what does not follow the seed could never be resumed.
        once = [self._reset(i, 0, seed) for i, seed in enumerate(seeds[:1])]
        keys = [self._reset(i, 0, seed) for i, seed in enumerate(seeds)]
        if once != keys[:1]:
            raise self._fault(
                0, 0, "reset", f"seed {seeds[0]} gave two different first observations"
            )
        self.actors["next"] = mix64.py_func(np.array(keys, np.uint64))
        self.actors["outcome"] = Outcome.RESET

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        n = self.actors.size
        quiet = tick % self.quiet_every == 0
        seeds: list[int | None] = list(self._seeds(tick)) if quiet else [None] * n
        final, following = np.empty(n, np.uint64), np.empty(n, np.uint64)
        actions = self.actors["action"].tolist()
        for i in range(n):
            taken = self._guard(
                i, tick, "step", self._environments[i].step, self._actions[actions[i]]
            )
            if not isinstance(taken, tuple) or len(taken) != 5:
                raise self._fault(
                    i,
                    tick,
                    "step",
                    f"returned {_shape(taken)}, expected (obs, reward, terminated, truncated, "
                    "info)",
                )
            observation, reward, terminated, truncated = self._plain(i, tick, taken)
            key = self._encode(i, tick, "step", observation)
            actor = self.actors[i]
            actor["reward"] = reward
            actor["episode_return"] += reward
            actor["elapsed"] += 1
            final[i] = following[i] = key
            if terminated or truncated or quiet:
                actor["outcome"] = Outcome.TERMINATED if terminated else Outcome.TRUNCATED
                if terminated or truncated:
                    actor["episodes"] += 1
                    self.tally += (1, actor["episode_return"], actor["elapsed"])
                following[i] = self._reset(i, tick, seeds[i])
            else:
                actor["outcome"] = Outcome.CONTINUES
        self.actors["final"] = mix64.py_func(final)
        self.actors["next"] = mix64.py_func(following)

    def restore(self, tick: int) -> None:
        """Restart every environment as at the quiet tick at which it was saved."""
        for i, seed in enumerate(self._seeds(tick)):
            expected = unmix64(self.actors[i]["hash"])
            if self._reset(i, tick, seed) != expected:
                raise CheckpointError(
                    f"environment {self._start + i} ({self._id}) does not restart in the state "
                    f"in which tick {tick} was saved; reset(seed=...) must decide the first "
                    "observation, or the run cannot be resumed"
                )

    def close(self) -> None:
        """Close every environment; what goes wrong there no longer matters."""
        for environment in self._environments:
            with contextlib.suppress(Exception):
                environment.close()


def _shape(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def make_collector(
    environment: CompiledEnvironment | PythonEnvironment,
    seed: np.uint64,
    start: int,
    count: int,
    quiet_every: int,
) -> Collector:
    """Return the collector of the environments `start` ... `start + count - 1`."""
    if isinstance(environment, CompiledEnvironment):
        return CompiledCollector(environment, seed, start, count)
    return PythonCollector(environment, seed, start, count, quiet_every)
