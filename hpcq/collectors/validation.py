"""Turn what users' environments return into numbers, or into an error that names the place.

All results are converted at once; only if that fails is the offending one looked for.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, EnvBlock
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import format_error
from hpcq.envs.protocol import MAX_REWARD
from hpcq.errors import EnvironmentFault, ExitCode
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import bitsets


class ValidatingCollector(Collector):
    """A block of Python environments whose results are checked; see `Collector`.

    `places` are indices in this block; errors name the index in the whole job.
    """

    def __init__(self, environment: PythonEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self._start = env_block.start
        self._codec = Codec(environment.observation)
        self._id = environment.id
        self._actions = environment.action_set
        self._tick = 0
        self._process = os.getpid()

    @property
    def clipped(self) -> int:
        """Floats of observations that were outside the range of their bins, in this process."""
        return self._codec.clipped

    def _numbers(self, places: range, rewards: Any) -> NDArray[np.float64]:
        """Return rewards as an array, or name the first that is not a number."""
        try:
            numbers = np.array(rewards, np.float64)
            if numbers.shape == (len(places),):
                return numbers
        except (TypeError, ValueError, OverflowError):
            pass
        raise self._invalid_reward(places, rewards)

    def _invalid_reward(self, places: range, rewards: Any) -> EnvironmentFault:
        """Return the error of the first reward that is not a finite number."""
        expected = f"expected a finite number of at most {MAX_REWARD:g} in size"
        for i, reward in self._each(places, rewards, "rewards"):
            try:
                fine = abs(float(reward)) <= MAX_REWARD
            except (TypeError, ValueError, OverflowError):
                fine = False
            if not fine or np.ndim(reward) > 0:
                return self._fault(i, "step", f"reward {cut_short(reward)}, {expected}")
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
        self._end_copy()
        keys = self._codec.encode_all(observations)
        if keys is None:
            keys = np.array(
                [self._key(i, what, o) for i, o in zip(places, observations, strict=True)],
                np.uint64,
            )
        return keys

    def _end_copy(self) -> None:
        """End this process if it is a copy: an environment called os.fork and came back twice.

        A copy would send messages and save in the place of the process that began the run.
        """
        if os.getpid() != self._process:
            text = (
                f"hpcq: {self._id} forked this process (os.fork) and came back in the copy, too: "
                f"the copy, process {os.getpid()}, ends; the run goes on\n"
            )
            with contextlib.suppress(OSError):
                os.write(2, text.encode(errors="backslashreplace"))
            os._exit(ExitCode.INTERNAL)

    def _bitsets(
        self, places: Sequence[int], what: str, masks: Any, ended: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint64]:
        """Return the masks of the environments `places` as bitsets.

        Where an episode has `ended`, none need be legal.
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

    def _guard(self, places: range, what: str, call: Callable, *values: Any, **kwargs: Any) -> Any:
        """Call the user's code; an exception is raised with the place and the traceback."""
        try:
            return call(*values, **kwargs)
        except (Exception, SystemExit) as error:
            raise self._raised(places, what, error) from error

    def _raised(self, places: range, what: str, error: BaseException) -> EnvironmentFault:
        return self._unit_fault(places, what, f"raised\n{format_error(error)}")

    def _fault(self, i: int, what: str, problem: str) -> EnvironmentFault:
        return self._unit_fault(range(i, i + 1), what, problem)

    def _unit_fault(self, places: range, what: str, problem: str) -> EnvironmentFault:
        """Return the error of consecutive environments: one, or a whole VectorEnv."""
        self._end_copy()
        here = slice(places.start, places.stop)
        episodes = self.batch.episodes[here]
        several = "s" if len(places) > 1 else ""
        action = ""
        if what not in ("make", "reset"):
            actions = [self._actions.one(number) for number in self.batch.action[here][:4]]
            action = ", ".join(cut_short(action) for action in actions)
            action = f", action{several} {action}{', ...' if len(places) > 4 else ''}"
        return EnvironmentFault(
            f"environment{several} {_span(self._start + places[0], self._start + places[-1])} "
            f"({self._id}), tick {self._tick}, "
            f"episode{several} {_span(episodes.min(), episodes.max())}"
            f"{action}: {what}: {problem}"
        )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} ... {last}"


def cut_short(value: Any, most: int = 200) -> str:
    """Return a value as text of bounded length."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= most else f"{text[:most]} ..."


def shape_of(value: Any) -> str:
    """Return a value's type, for an error: a tuple with its length."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def is_reset(value: Any) -> bool:
    """Return whether a reset returned an observation and an info."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict)
