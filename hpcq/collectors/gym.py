"""What stepping Gymnasium's environments and its VectorEnvs have in common.

The environments' results come as columns; one kernel writes them into the arrays. What goes
wrong is looked for only when it has.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.actors import Outcome, make_actors
from hpcq.collectors.collector import Collector, Share
from hpcq.envs.adapter import PythonEnvironment
from hpcq.envs.load import told
from hpcq.errors import CheckpointError, EnvironmentFault
from hpcq.hashing import Purpose, mix64, tick_word
from hpcq.native.kernels import Direct, kernel
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import bitsets

# Sums of such rewards stay finite, also in float32.
MAX_REWARD = 1e30

# What `look` finds, as bits.
ENDED, UNFIT, MORE = 1, 2, 4

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)


@kernel
def look(rewards, terminated, truncated, resetting):
    """Return what there is in one step of a unit, as bits.

    ENDED, an episode; UNFIT, a reward that is not a number or too large; MORE, a step of an
    environment that was only to reset itself.
    """
    found = 0
    for i in range(rewards.size):
        ended = terminated[i] | truncated[i]
        found |= np.int64(ended) * ENDED
        found |= np.int64(not abs(rewards[i]) <= MAX_REWARD) * UNFIT
        found |= np.int64(resetting[i] & (ended | (rewards[i] != 0.0))) * MORE
    return found


@kernel
def _record(actors, keys, finals, rewards, terminated, truncated, resetting, ended, tally):
    """Write one step of every environment into the arrays; return how many episodes ended.

    keys, finals           uint64 (n,): states to act in next, and last states of ended episodes
    rewards                float64 (n,), finite
    terminated, truncated  bool (n,)
    resetting              bool (n,): this was no step, the environment only reset itself
    ended                  int64 (n,), out: the environments whose episodes ended
    """
    count = 0
    for i in range(keys.size):
        actors.next[i] = mix64(keys[i])
        if resetting[i]:
            actors.outcome[i] = _RESET
            continue
        actors.final[i] = mix64(finals[i])
        actors.reward[i] = rewards[i]
        actors.episode_return[i] += rewards[i]
        actors.elapsed[i] += 1
        if terminated[i] or truncated[i]:
            actors.outcome[i] = _TERMINATED if terminated[i] else _TRUNCATED
            tally[0] += 1
            tally[1] += actors.episode_return[i]
            tally[2] += actors.elapsed[i]
            actors.episodes[i] += 1
            actors.episode_return[i] = 0.0
            actors.elapsed[i] = 0
            ended[count] = i
            count += 1
        else:
            actors.outcome[i] = _CONTINUES
    return count


class GymnasiumCollector(Collector):
    """A block of environments that Python steps; see `Collector`.

    An environment's own state cannot be saved. At quiet ticks, every `quiet_every`, all episodes
    end as truncated and restart from seeds that follow from (seed, environment, tick), in every
    run: there a saved run is brought back exactly.

    A subclass makes the environments, and gives `step` and `_reset_all`.

    Raises
    ------
    EnvironmentFault
        where an environment raises or breaks Gymnasium's contract, naming it, the tick, the
        episode and the action.
    """

    def __init__(self, environment: PythonEnvironment, share: Share) -> None:
        super().__init__(share)
        self._start = share.start
        self._codec = Codec(environment.observation)
        self._id = environment.id
        self._actions = environment.action_set
        self._masked = environment.masked
        self._tick = 0
        self._resetting = np.zeros(share.count, np.bool_)
        self._ended = np.zeros(share.count, np.int64)
        self._environments: list[Any] = []
        self._write = Direct(_record)

    @property
    def clipped(self) -> int:
        """Floats of observations that were outside the range of their bins, in this process."""
        return self._codec.clipped

    def _reset_all(self) -> NDArray[np.uint64]:
        """Reset every environment from this tick's seeds; return the first states' keys."""
        raise NotImplementedError

    def _reset_one(self) -> NDArray[np.uint64]:
        """Reset the first environment, or unit, again; return its first states' keys."""
        raise NotImplementedError

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._tick = 0
        self._resetting[:] = False
        if not self.actors.hash.size:
            return
        keys = self._reset_all()
        # The first one twice: what does not follow the seed could never be resumed.
        again = self._reset_one()
        if not np.array_equal(again, keys[: again.size]):
            problem = f"seed {self._seeds()[0]} gave two different first observations"
            raise self._fault(0, "reset", problem)
        self.actors.next[:] = mix64.py_func(keys)
        self.actors.outcome[:] = Outcome.RESET

    def restore(self, tick: int) -> None:
        """Restart every environment as at the quiet tick at which it was saved."""
        self._tick = tick
        keys = self._reset_all()
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

    def _record(
        self,
        keys: NDArray[np.uint64],
        finals: NDArray[np.uint64],
        rewards: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Write a step into the arrays; return the environments whose episodes ended."""
        count = self._write(
            self.actors,
            keys,
            finals,
            rewards,
            terminated,
            truncated,
            self._resetting,
            self._ended,
            self.tally,
        )
        return self._ended[:count]

    def _cut(self) -> None:
        """End what goes on as truncated, and restart everything: a quiet tick."""
        actors = self.actors
        actors.outcome[actors.outcome == Outcome.CONTINUES] = Outcome.TRUNCATED
        self._resetting[:] = False
        actors.next[:] = mix64.py_func(self._reset_all())
        actors.elapsed[:] = 0
        actors.episode_return[:] = 0.0

    def _numbers(self, places: range, rewards: Any) -> NDArray[np.float64]:
        """Return rewards as finite numbers, or name the first that is not one."""
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers = np.array(rewards, np.float64)
            if numbers.shape == (len(places),) and (np.abs(numbers) <= MAX_REWARD).all():
                return numbers
        expected = f"expected a finite number of at most {MAX_REWARD:g} in size"
        for i, reward in self._each(places, rewards, "rewards"):
            try:
                fine = abs(float(reward)) <= MAX_REWARD
            except (TypeError, ValueError, OverflowError):
                fine = False
            if not fine or np.ndim(reward) > 0:
                raise self._fault(i, "step", f"reward {cut_short(reward)}, {expected}")
        raise AssertionError("no reward is wrong, but all together are")

    def _booleans(self, places: range, flags: Any, name: str) -> NDArray[np.bool_]:
        """Return flags as an array, or name the first that is not one."""
        with contextlib.suppress(ValueError):
            array = np.array(flags)
            if array.dtype == np.bool_ and array.shape == (len(places),):
                return array
        for i, flag in self._each(places, flags, name):
            if np.ndim(flag) > 0 or not isinstance(flag, bool | int | np.bool_ | np.integer):
                raise self._fault(i, "step", f"{name} is {cut_short(flag)}, expected a bool")
        return np.array(flags, np.bool_)

    def _each(self, places: range, values: Any, name: str) -> Any:
        """Return pairs of environment and value; there must be one for each."""
        if np.ndim(values) == 0 or len(values) != len(places):
            raise self._unit_fault(
                places, "step", f"{name} are {cut_short(values)}, expected {len(places)} of them"
            )
        return zip(places, values, strict=True)

    def _keys(
        self, places: Sequence[int], what: str, observations: list[Any]
    ) -> NDArray[np.uint64]:
        """Return the keys of the observations of the environments `places`."""
        keys = self._codec.encode_all(observations)
        if keys is None:
            keys = np.array(
                [self._key(i, what, o) for i, o in zip(places, observations, strict=True)],
                np.uint64,
            )
        return keys

    def _bitsets(
        self, places: Sequence[int], what: str, masks: Any, ended: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint64]:
        """Return the masks of the environments `places` as bitsets.

        Where an episode has `ended`, no action need be legal.
        """
        actions = self._actions.count
        with contextlib.suppress(ValueError, TypeError):
            array = np.array(masks)
            fits = array.shape == (len(places), actions) and array.dtype.kind in "biu"
            if fits and (array.any(axis=1) | (False if ended is None else ended)).all():
                return bitsets(array)
        for place, i in enumerate(places):
            mask = np.array(masks[place])
            if mask.shape != (actions,) or mask.dtype.kind not in "biu":
                problem = (
                    f"info['action_mask'] is {cut_short(masks[place])}, expected {actions} numbers "
                    "0 or 1, such as np.ones(n, np.int8)"
                )
            elif not mask.any() and (ended is None or not ended[place]):
                problem = "info['action_mask'] permits no action"
            else:
                continue
            raise self._fault(i, what, problem)
        raise AssertionError("no mask is wrong, but all together are")

    def _no_mask(self, i: int, what: str, info: Any) -> EnvironmentFault:
        """Return the error of an info without a mask."""
        found = (
            f"info has {cut_short(sorted(map(str, info)))}"
            if isinstance(info, dict)
            else (f"info is a {type(info).__name__}")
        )
        return self._fault(
            i, what, f"{found}, expected 'action_mask', since environment.action_mask = true"
        )

    def _key(self, i: int, what: str, observation: Any) -> int:
        try:
            return self._codec.encode(observation)
        except ValueError as error:
            problem = f"observation {cut_short(observation)} is not in the space: {error}"
            raise self._fault(i, what, problem) from None

    def _seeds(self) -> list[int]:
        """Return the seeds of this tick: distinct for all environments of the job."""
        word = int(tick_word(self._seed, self._tick, Purpose.RESET))
        return [(word + self._start + i) & 0x7FFFFFFF for i in range(self.actors.hash.size)]

    def _guard(self, places: range, what: str, call: Callable, *values: Any, **kwargs: Any) -> Any:
        """Call the user's code; a failure names the place and keeps the user's traceback."""
        try:
            return call(*values, **kwargs)
        except (Exception, SystemExit) as error:
            raise self._raised(places, what, error) from error

    def _raised(self, places: range, what: str, error: BaseException) -> EnvironmentFault:
        return self._unit_fault(places, what, f"raised\n{told(error)}")

    def _fault(self, i: int, what: str, problem: str) -> EnvironmentFault:
        return self._unit_fault(range(i, i + 1), what, problem)

    def _unit_fault(self, places: range, what: str, problem: str) -> EnvironmentFault:
        """Return the error of one environment, or of one unit of several."""
        here = slice(places.start, places.stop)
        episodes = self.actors.episodes[here]
        several = "s" if len(places) > 1 else ""
        action = ""
        if what not in ("make", "reset"):
            actions = [self._actions.one(number) for number in self.actors.action[here][:4]]
            action = ", ".join(cut_short(action) for action in actions)
            action = f", action{several} {action}{', ...' if len(places) > 4 else ''}"
        return EnvironmentFault(
            f"environment{several} {_span(self._start + places[0], self._start + places[-1])} "
            f"({self._id}), tick {self._tick}, "
            f"episode{several} {_span(episodes.min(), episodes.max())}"
            f"{action}: {what}: {problem}"
        )


def warm(environment: PythonEnvironment) -> None:
    """Compile, or load from the cache, the kernels that stepping this environment uses."""
    codec = Codec(environment.observation)
    codec.encode_all([codec.decode(0)])
    actors, keys, flags = make_actors(1), np.zeros(1, np.uint64), np.zeros(1, np.bool_)
    ended = np.zeros(1, np.int64)
    look(np.zeros(1), flags, flags, flags)
    _record(actors, keys, keys, np.zeros(1), flags, flags, flags, ended, np.zeros(3))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} ... {last}"


def cut_short(value: Any, most: int = 200) -> str:
    """Return a value as text of bounded length."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= most else f"{text[:most]} ..."


def shape_of(value: Any) -> str:
    """Return what kind of thing was returned."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def is_reset(value: Any) -> bool:
    """Return whether a reset returned an observation and an info."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict)
