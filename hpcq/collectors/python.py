"""Step Gymnasium environments one after the other, at little cost beside their own.

The loop over the environments only steps; keys, rewards and outcomes are computed for all of them
at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import EnvBlock
from hpcq.collectors.gymnasium_base import GymnasiumCollector
from hpcq.collectors.infos import value_of
from hpcq.collectors.validation import is_reset, kind_of
from hpcq.envs.guest import attempt, cut_short
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import takes
from hpcq.envs.old_gym import OLD_GYM
from hpcq.errors import EnvironmentFault
from hpcq.spaces.masks import bitsets

_NOTHING: Any = object()
_OLD_API = f"; this is the interface of the old package gym: {OLD_GYM}"


class PythonCollector(GymnasiumCollector):
    """A block of Gymnasium's Envs. See `GymnasiumCollector`."""

    def __init__(self, environment: PythonEnvironment, env_block: EnvBlock) -> None:
        super().__init__(environment, env_block)
        count = env_block.count
        self._all = range(count)
        for i in self._all:
            made = self._guard(range(i, i + 1), "make", environment.make, self._in_job[i])
            self._environments.append(made)
        self._steps = [env.step for env in self._environments]
        self._resets = [env.reset for env in self._environments]
        self._observations: list[Any] = [None] * count
        self._rewards = [None] * count
        self._infos: list[Any] = [None] * count
        # Where nothing is read from infos all are written to one place, which frees each at once.
        wanted = self._masked or bool(self.infos.keys)
        self._info_places = list(self._all) if wanted else [0] * count
        self._terminated = np.zeros(count, np.bool_)
        self._truncated = np.zeros(count, np.bool_)

    def call_between(self, function: Callable[[], object]) -> None:
        """Call `function` after the step of every single environment."""

        def followed(step: Callable) -> Callable:
            def stepped(action: Any) -> Any:
                taken = step(action)
                function()
                return taken

            return stepped

        self._steps = [followed(step) for step in self._steps]

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._tick = tick
        if not self._all:
            return
        self._step_all()
        keys = self._keys(self._all, "step", self._observations)
        rewards = self._numbers(self._all, self._rewards)
        for column, key in enumerate(self.infos.keys):
            self.infos.values[:, column] = self._info_numbers(self._all, key, self._infos)
        ended = self._record(keys, keys, rewards, self._terminated, self._truncated)
        if self._masked:
            masks = self._masks(self._all, "step", self._infos, self._terminated)
            self.batch.final_mask[:] = self.batch.next_mask[:] = masks
        if self.resets_at(tick):
            self._truncate_all()
        elif ended.size:
            self._set_next(self.batch, ended, self._reset(ended.tolist(), None))

    def _step_all(self) -> None:
        """Step all environments and store what they return.

        This loop is hpcq's share of the cost: flags are examined only where they are true.
        """
        observations, rewards, infos = self._observations, self._rewards, self._infos
        self._terminated[:] = False
        self._truncated[:] = False
        ended = []
        i, taken = -1, _NOTHING
        actions = self._actions.each(self.batch.action)
        try:
            for i, at, step, action in zip(
                self._all, self._info_places, self._steps, actions, strict=True
            ):
                taken = _NOTHING
                taken = step(action)
                observations[i], rewards[i], terminated, truncated, infos[at] = taken
                if terminated or truncated:
                    ended.append((i, terminated, truncated))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._step_fault(i, taken, error) from error
        for i, terminated, truncated in ended:
            self._check_flags(i, (None, None, terminated, truncated, None))
            self._terminated[i], self._truncated[i] = terminated, truncated

    def _step_fault(self, i: int, taken: Any, error: BaseException) -> EnvironmentFault:
        """Return the error of a step that raised, or did not return what it should."""
        if taken is _NOTHING:
            return self._raised(range(i, i + 1), "step", error)
        self._check_flags(i, taken)
        if isinstance(taken, tuple) and len(taken) == 5:
            return self._raised(range(i, i + 1), "step", error)
        old = _OLD_API if isinstance(taken, tuple) and len(taken) == 4 else ""
        expected = "expected (obs, reward, terminated, truncated, info)"
        return self._fault(i, "step", f"returned {kind_of(taken)}, {expected}{old}")

    def _check_flags(self, i: int, taken: Any) -> None:
        if isinstance(taken, tuple) and len(taken) == 5:
            for name, flag in (("terminated", taken[2]), ("truncated", taken[3])):
                if not isinstance(flag, bool | np.bool_ | int | np.integer):
                    problem = f"{name} is {cut_short(flag)}, expected a bool"
                    raise self._fault(i, "step", problem)

    def _reset_all(self) -> NDArray[np.uint64]:
        return self._reset(self._all, self._seeds())

    def _reset_first(self) -> NDArray[np.uint64]:
        return self._reset(self._all[:1], self._seeds())

    def _reset(self, places: Sequence[int], seeds: list[int] | None) -> NDArray[np.uint64]:
        """Reset the environments `places` and return the keys of their first observations."""
        resets, i = [], -1
        try:
            for i in places:
                resets.append(self._resets[i](seed=None if seeds is None else seeds[i]))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._reset_fault(i, error) from error
        for i, found in zip(places, resets, strict=True):
            if not is_reset(found):
                old = "" if isinstance(found, tuple) else _OLD_API
                problem = f"returned {kind_of(found)}, expected (obs, info){old}"
                raise self._fault(i, "reset", problem)
        observations, infos = [found[0] for found in resets], [found[1] for found in resets]
        if self._masked:
            self.batch.next_mask[list(places)] = self._masks(places, "reset", infos)
        return self._keys(places, "reset", observations)

    def _reset_fault(self, i: int, error: BaseException) -> EnvironmentFault:
        """Return the error of a reset that raised."""
        if isinstance(error, TypeError) and not takes(self._resets[i], "seed"):
            problem = "takes no seed, expected reset(self, *, seed=None, options=None)"
            return self._fault(i, "reset", problem + _OLD_API)
        return self._raised(range(i, i + 1), "reset", error)

    def _info_numbers(self, places: Sequence[int], key: str, infos: list[Any]) -> Any:
        """Return what the infos give under a key; nan where they give nothing."""
        values, failed = attempt(lambda: [value_of(info, key) for info in infos])
        if failed:
            for i, info in zip(places, infos, strict=True):
                if not isinstance(info, dict):
                    raise self._fault(i, "step", f"info is {cut_short(info)}, expected a dict")
            raise self._raised(range(places[0], places[-1] + 1), "step", failed) from failed
        return self._info_array(places, key, values)

    def _masks(
        self,
        places: Sequence[int],
        what: str,
        infos: list[Any],
        ended: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.uint64]:
        """Return the legal actions from the infos of the environments `places`, as bitsets."""
        if len(places) == 0:
            return bitsets(np.empty((0, self._actions.count)))
        masks, failed = attempt(lambda: [info["action_mask"] for info in infos])
        if failed:
            for i, info in zip(places, infos, strict=True):
                if not isinstance(info, dict) or "action_mask" not in info:
                    raise self._no_mask(i, what, info) from None
            raise self._raised(range(places[0], places[-1] + 1), what, failed) from failed
        return self._bitsets(places, what, masks, ended)
