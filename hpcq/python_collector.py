"""Step Gymnasium environments one after the other, and keep hpcq's own cost small beside that.

The loop over the environments does nothing but step; keys, rewards and outcomes are made for all
of them at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.adapter import PythonEnvironment
from hpcq.gym_collector import GymnasiumCollector, is_reset, shape_of
from hpcq.hashing import mix64


class PythonCollector(GymnasiumCollector):
    """A block of Gymnasium's Envs. See `GymnasiumCollector`."""

    def __init__(
        self,
        environment: PythonEnvironment,
        seed: np.uint64,
        start: int,
        count: int,
        quiet_every: int,
    ) -> None:
        super().__init__(environment, seed, start, count, quiet_every)
        self._everyone = range(count)
        for i in self._everyone:
            made = self._guard(range(i, i + 1), "make", environment.make)
            self._environments.append(made)
        self._steps = [env.step for env in self._environments]

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._tick = tick
        if not self._everyone:
            return
        observations, rewards, terminated, truncated = self._step_all()
        keys = self._keys(self._everyone, "step", observations)
        ended = self._record(keys, keys, rewards, terminated, truncated)
        if tick % self.quiet_every == 0:
            self._cut()
        elif ended.size:
            self.actors["next"][ended] = mix64.py_func(self._reset(ended.tolist(), None))

    def _step_all(
        self,
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return observations, rewards, terminated and truncated of all environments."""
        taken: list[Any] = []
        keep = taken.append
        try:
            for step, action in zip(
                self._steps, self._actions.each(self.actors["action"]), strict=True
            ):
                keep(step(action))
        except (Exception, SystemExit) as error:
            raise self._raised(range(len(taken), len(taken) + 1), "step", error) from error
        try:
            observations, rewards, terminated, truncated, _ = zip(*taken, strict=True)
        except (TypeError, ValueError):
            wrong = next(i for i, t in enumerate(taken) if not isinstance(t, tuple) or len(t) != 5)
            problem = "expected (obs, reward, terminated, truncated, info)"
            found = shape_of(taken[wrong])
            raise self._fault(wrong, "step", f"returned {found}, {problem}") from None
        return (
            observations,
            self._numbers(self._everyone, rewards),
            self._booleans(self._everyone, terminated, "terminated"),
            self._booleans(self._everyone, truncated, "truncated"),
        )

    def _reset_all(self) -> NDArray[np.uint64]:
        return self._reset(self._everyone, self._seeds())

    def _reset_one(self) -> NDArray[np.uint64]:
        return self._reset(self._everyone[:1], self._seeds())

    def _reset(self, places: Sequence[int], seeds: list[int] | None) -> NDArray[np.uint64]:
        """Reset the environments `places` and return the keys of their first observations."""
        observations = []
        for i in places:
            seed = None if seeds is None else seeds[i]
            where, reset = range(i, i + 1), self._environments[i].reset
            found = self._guard(where, "reset", reset, seed=seed)
            if not is_reset(found):
                raise self._fault(i, "reset", f"returned {shape_of(found)}, expected (obs, info)")
            observations.append(found[0])
        return self._keys(places, "reset", observations)
