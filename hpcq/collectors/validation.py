"""Turn what users' environments return into numbers, or into an error that names the place.

All results are converted at once; only if that fails is the offending one looked for.
"""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, EnvBlock
from hpcq.envs.guest import attempt, brief, cut_short, format_error, shape_of
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import MAX_REWARD
from hpcq.errors import EnvironmentFault, ExitCode
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import bitsets

_MASKS = (
    "; if it marks an illegal action, let hpcq take legal ones alone: environment.action_mask "
    "(and mask_key, if the observation holds the mask)"
)
_ONE_REWARD = (
    "a table learns from one number: add its parts up, each by its weight, in a wrapper "
    "(environment.wrappers)"
)


class ValidatingCollector(Collector):
    """A block of Python environments whose results are checked; see `Collector`.

    `places` are indices in this block; errors name the index in the whole job.
    """

    def __init__(self, environment: PythonEnvironment, env_block: EnvBlock) -> None:
        super().__init__(env_block)
        self._in_job = env_block.numbers.tolist()
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
        numbers, failed = attempt(np.array, rewards, np.float64)
        if failed or numbers.shape != (len(places),):
            raise self._invalid_reward(places, rewards)
        return numbers

    def _invalid_reward(self, places: range, rewards: Any) -> EnvironmentFault:
        """Return the error of the first reward that is not a finite number."""
        expected = f"expected a finite number of at most {MAX_REWARD:g} in size"
        for i, reward in self._each(places, rewards, "rewards"):
            number, failed = attempt(float, reward)
            if shape := shape_of(reward):
                return self._fault(i, "step", f"reward of shape {shape}, {expected}; {_ONE_REWARD}")
            if failed or not abs(number) <= MAX_REWARD:
                # float() itself raises these.
                plain = isinstance(failed, TypeError | ValueError | OverflowError)
                why = f" ({brief(failed)})" if failed and not plain else ""
                hint = "" if failed or number != -math.inf else _MASKS
                problem = f"reward {cut_short(reward)}{why}, {expected}{hint}"
                return self._fault(i, "step", problem)
        return self._unit_fault(places, "step", f"rewards {cut_short(rewards)}: {expected}, each")

    def _booleans(self, places: range, flags: Any, name: str) -> NDArray[np.bool_]:
        """Return flags as an array, or name the first that is not one."""
        array, failed = attempt(np.array, flags)
        if not failed and array.dtype == np.bool_ and array.shape == (len(places),):
            return array
        for i, flag in self._each(places, flags, name):
            if shape_of(flag) != () or not isinstance(flag, bool | int | np.bool_ | np.integer):
                raise self._fault(i, "step", f"{name} is {cut_short(flag)}, expected a bool")
        return self._guard(places, "step", np.array, flags, np.bool_)

    def _each(self, places: range, values: Any, name: str) -> Any:
        """Return pairs of environment and value; there must be one for each."""
        if not is_batch(values, len(places)):
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
        array, failed = attempt(np.array, masks)
        fits = not failed and array.shape == (len(places), actions) and array.dtype.kind in "biu"
        if fits and (array.any(axis=1) | (False if ended is None else ended)).all():
            return bitsets(array)
        for place, i in enumerate(places):
            mask, failed = attempt(np.array, masks[place])
            if failed or mask.shape != (actions,) or mask.dtype.kind not in "biu":
                problem = (
                    f"info['action_mask'] is {cut_short(masks[place])}, expected {actions} numbers "
                    "0 or 1, such as np.ones(n, np.int8)"
                )
            elif not mask.any() and (ended is None or not ended[place]):
                problem = "info['action_mask'] permits no action"
            else:
                continue
            raise self._fault(i, what, problem)
        problem = "info['action_mask'] is another one each time that it is read"
        raise self._fault(places[0], what, problem)

    def _info_array(self, places: Sequence[int], key: str, values: Any) -> NDArray[np.float64]:
        """Return the numbers under a key of the infos as an array; nan for None.

        Raises
        ------
        EnvironmentFault
            naming the first that is no number.
        """
        array, failed = attempt(np.array, values, np.float64)
        if not failed and array.shape == (len(places),):
            return array
        for i, value in zip(places, values, strict=True):
            one, failed = attempt(np.array, value, np.float64)
            if failed or one.shape != ():
                problem = f"info[{key!r}] is {cut_short(value)}, expected a number"
                raise self._fault(i, "step", f"{problem}, since environment.info names it")
        raise self._fault(places[0], "step", f"info[{key!r}] is another one each time it is read")

    def _no_mask(self, i: int, what: str, info: Any) -> EnvironmentFault:
        """Return the error of an info without a mask."""
        found = f"info is a {type(info).__name__}"
        if isinstance(info, dict):
            found = f"info has {cut_short(attempt(lambda: sorted(map(str, info)))[0])}"
        return self._fault(
            i, what, f"{found}, expected 'action_mask', since environment.action_mask = true"
        )

    def _key(self, i: int, what: str, observation: Any) -> int:
        key, failed = attempt(self._codec.encode, observation)
        if not failed:
            return key
        # A ValueError is the codec's; anything else, what the observation raised.
        why = failed if isinstance(failed, ValueError) else brief(failed)
        problem = f"observation {cut_short(observation)} is not in the space: {why}"
        raise self._fault(i, what, problem) from None

    def _guard(self, places: range, what: str, call: Callable, *values: Any, **kwargs: Any) -> Any:
        """Call the user's code; an exception is raised with the place and the traceback."""
        result, error = attempt(call, *values, **kwargs)
        if error is not None:
            raise self._raised(places, what, error) from error
        return result

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
            f"environment{several} {_span(self._in_job[places[0]], self._in_job[places[-1]])} "
            f"({self._id}), tick {self._tick}, "
            f"episode{several} {_span(episodes.min(), episodes.max())}"
            f"{action}: {what}: {problem}"
        )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} ... {last}"


def is_batch(values: Any, count: int) -> bool:
    """Return whether `values` is a sequence of so many."""
    several = isinstance(values, list | tuple) or bool(shape_of(values))
    return several and attempt(len, values)[0] == count


def kind_of(value: Any) -> str:
    """Return a value's type, for an error: a tuple with its length."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def is_reset(value: Any) -> bool:
    """Return whether a reset returned an observation and an info."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict)
