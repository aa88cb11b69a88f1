"""Step Gymnasium's VectorEnvs in each of the three autoreset modes.

The mode is in ``metadata["autoreset_mode"]`` (https://farama.org/Vector-Autoreset-Mode):

NEXT_STEP   the step after an end ignores the action and returns the reset observation, with
            reward 0: it is no transition and is never learned from
SAME_STEP   the step that ends returns the reset observation; the final one is in
            ``infos["final_obs"]``
DISABLED    an ended environment waits for ``reset(options={"reset_mask": ...})``

A VectorEnv draws for all its environments from one generator: it is never split between ranks, and
its size belongs to the job.
"""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import EnvBlock
from hpcq.collectors.gymnasium_base import ENDED, INVALID_RESET, GymnasiumCollector
from hpcq.collectors.infos import value_of
from hpcq.collectors.validation import is_batch, is_reset, kind_of
from hpcq.envs.guest import attempt, brief
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.versions import gymnasium_version, numbers
from hpcq.errors import EnvironmentFault

# The first Gymnasium whose VectorEnvs say their mode; older ones know NEXT_STEP alone.
_WITH_MODES = (1, 1)


class AutoresetMode(Enum):
    """The values of Gymnasium's enumeration, which Gymnasium 1.0 has not."""

    NEXT_STEP = "NextStep"
    SAME_STEP = "SameStep"
    DISABLED = "Disabled"


class VectorCollector(GymnasiumCollector):
    """A block of VectorEnvs of the same size. See `GymnasiumCollector`."""

    def __init__(self, environment: PythonEnvironment, env_block: EnvBlock) -> None:
        super().__init__(environment, env_block)
        assert environment.vector is not None
        count, size = env_block.count, environment.vector
        self._units = [range(i, i + size) for i in range(0, count, size)]
        self._modes: list[AutoresetMode] = []
        for places in self._units:
            made = self._guard(places, "make", environment.make, self._in_job[places.start])
            self._environments.append(made)
            self._modes.append(self._mode(places, made))
        next_step = [mode == AutoresetMode.NEXT_STEP for mode in self._modes]
        self._next_step = np.repeat(np.array(next_step, np.bool_), size)
        self._finals = np.zeros(count, np.uint64)
        self._next_keys = np.zeros(count, np.uint64)
        self._rewards = np.zeros(count)
        self._terminated = np.zeros(count, np.bool_)
        self._truncated = np.zeros(count, np.bool_)

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self._tick = tick
        reset_tick = self.resets_at(tick)
        for unit, places in enumerate(self._units):
            self._step_unit(unit, slice(places.start, places.stop), reset_tick)
        ended = self._record(
            self._next_keys, self._finals, self._rewards, self._terminated, self._truncated
        )
        self._resetting[:] = False
        if reset_tick:
            self._truncate_all()
        else:
            self._resetting[ended] = self._next_step[ended]

    def _step_unit(self, unit: int, part: slice, reset_tick: bool) -> None:
        """Step one VectorEnv and store what it returns."""
        places, env, mode = self._units[unit], self._environments[unit], self._modes[unit]
        actions = self._actions.batch(self.batch.action[part])
        taken = self._guard(places, "step", env.step, actions)
        if not isinstance(taken, tuple) or len(taken) != 5:
            problem = "expected (observations, rewards, terminations, truncations, infos)"
            raise self._unit_fault(places, "step", f"returned {kind_of(taken)}, {problem}")
        observations, rewards, terminations, truncations, infos = taken
        if not _is_array(rewards, (np.float32, np.float64), len(places)):
            rewards = self._numbers(places, rewards)
        if not _is_array(terminations, (np.bool_,), len(places)):
            terminations = self._booleans(places, terminations, "terminated")
        if not _is_array(truncations, (np.bool_,), len(places)):
            truncations = self._booleans(places, truncations, "truncated")
        self._rewards[part] = rewards
        self._terminated[part] = terminations
        self._truncated[part] = truncations
        found = self._inspect_step(
            self._rewards[part],
            self._terminated[part],
            self._truncated[part],
            self._resetting[part],
        )
        keys = self._batch_keys(places, "step", observations)
        self._next_keys[part] = self._finals[part] = keys
        if self._masked:
            terminated = self._terminated[part]
            # In SAME_STEP mode the infos already belong to the next episode.
            over = None if mode == AutoresetMode.SAME_STEP else terminated
            masks = self._batch_masks(places, "step", infos, over)
            self.batch.next_mask[part] = self.batch.final_mask[part] = masks
        if self.infos.keys:
            self.infos.values[part] = self._batch_infos(places, infos)
        final = infos.get("final_obs") if isinstance(infos, dict) else None
        if mode == AutoresetMode.NEXT_STEP and found & INVALID_RESET:
            raise self._invalid_reset(part)
        if mode != AutoresetMode.SAME_STEP and final is not None:
            raise self._wrong_mode(places, mode, "infos has 'final_obs', as in SAME_STEP")
        if not found & ENDED or mode == AutoresetMode.NEXT_STEP:
            return
        ended = self._terminated[part] | self._truncated[part]
        which = np.flatnonzero(ended)
        if mode == AutoresetMode.SAME_STEP:
            self._finals[part][which] = self._final_keys(places, which, final)
            if self.infos.keys:
                last = self._batch_infos(places, infos.get("final_info"))
                self.infos.values[part][which] = last[which]
            if self._masked:
                self._final_masks(places, self._truncated[part] & ~self._terminated[part], infos)
        elif not reset_tick:
            self._reset_ended(unit, part, ended)

    def _invalid_reset(self, part: slice) -> EnvironmentFault:
        """Return the error of a step after an episode's end that did more than reset."""
        ended = self._terminated[part] | self._truncated[part]
        wrong = self._resetting[part] & (ended | (self._rewards[part] != 0))
        i = part.start + int(np.flatnonzero(wrong)[0])
        return self._wrong_mode(
            range(i, i + 1),
            AutoresetMode.NEXT_STEP,
            "the step after an episode's end must only reset, but it returned reward "
            f"{self._rewards[i]:g}, terminated {self._terminated[i]}, truncated "
            f"{self._truncated[i]}",
        )

    def _final_keys(self, places: range, which: NDArray, final: Any) -> NDArray[np.uint64]:
        """Return the keys of the final observations of the environments that ended."""
        if final is None:
            where = places[int(which[0])]
            raise self._wrong_mode(
                range(where, where + 1),
                AutoresetMode.SAME_STEP,
                "an episode ended, but infos has no 'final_obs'",
            )
        single = isinstance(final, list) or (
            isinstance(final, np.ndarray) and final.dtype.hasobject
        )
        observations = [final[i] if single else self._codec.item(final, i) for i in which.tolist()]
        return self._keys([places[i] for i in which.tolist()], "final_obs", observations)

    def _reset_ended(self, unit: int, part: slice, ended: NDArray[np.bool_]) -> None:
        """Reset the ended environments of a VectorEnv in DISABLED mode."""
        places, env = self._units[unit], self._environments[unit]
        found = self._guard(places, "reset", env.reset, options={"reset_mask": ended.copy()})
        keys = self._first_keys(places, found)
        others = ~ended & (keys != self._next_keys[part])
        if others.any():
            i = places[int(np.flatnonzero(others)[0])]
            raise self._wrong_mode(
                range(i, i + 1),
                AutoresetMode.DISABLED,
                "reset(options={'reset_mask': ...}) changed an environment outside the mask",
            )
        self._next_keys[part][ended] = keys[ended]
        if self._masked:
            masks = self._batch_masks(places, "reset", found[1], ~ended)
            self.batch.next_mask[part][ended] = masks[ended]

    def _reset_all(self) -> NDArray[np.uint64]:
        keys = [self._reset_unit(unit) for unit in range(len(self._units))]
        return np.concatenate(keys) if keys else np.zeros(0, np.uint64)

    def _reset_first(self) -> NDArray[np.uint64]:
        return self._reset_unit(0)

    def _reset_unit(self, unit: int) -> NDArray[np.uint64]:
        places = self._units[unit]
        seed = self._seeds()[places.start]
        found = self._guard(places, "reset", self._environments[unit].reset, seed=seed)
        keys = self._first_keys(places, found)
        if self._masked:
            part = slice(places.start, places.stop)
            self.batch.next_mask[part] = self._batch_masks(places, "reset", found[1])
        return keys

    def _first_keys(self, places: range, found: Any) -> NDArray[np.uint64]:
        if not is_reset(found):
            raise self._unit_fault(
                places, "reset", f"returned {kind_of(found)}, expected (observations, infos)"
            )
        return self._batch_keys(places, "reset", found[0])

    def _batch_keys(self, places: range, what: str, batch: Any) -> NDArray[np.uint64]:
        """Return the keys of a batch of observations, or name the first that has none."""
        self._end_copy()
        keys = self._codec.encode_batch(batch, len(places))
        if keys is not None:
            return keys
        observations, failed = attempt(
            lambda: [self._codec.item(batch, i) for i in range(len(places))]
        )
        if failed:
            problem = f"no batch of {len(places)} observations: {brief(failed)}"
            raise self._unit_fault(places, what, problem) from None
        return self._keys(places, what, observations)

    def _batch_masks(
        self, places: range, what: str, infos: Any, ended: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint64]:
        """Return the legal actions from the infos of a VectorEnv, as bitsets."""
        if not isinstance(infos, dict) or "action_mask" not in infos:
            raise self._no_mask(places[0], what, infos)
        masks = infos["action_mask"]
        if not is_batch(masks, len(places)):
            problem = f"infos['action_mask'] is {kind_of(masks)}, expected {len(places)} masks"
            raise self._unit_fault(places, what, problem)
        return self._bitsets(places, what, masks, ended)

    def _batch_infos(self, places: range, infos: Any) -> NDArray[np.float64]:
        """Return the numbers of a VectorEnv's infos, (n, keys); nan where it gives none."""
        found = np.full((len(places), len(self.infos.keys)), np.nan)
        for column, key in enumerate(self.infos.keys):
            values = value_of(infos, key) if isinstance(infos, dict) else None
            if values is None:
                continue
            if not is_batch(values, len(places)):
                problem = f"infos[{key!r}] is {kind_of(values)}, expected {len(places)} numbers"
                raise self._unit_fault(places, "step", problem)
            found[:, column] = self._info_array(places, key, values)
            # Gymnasium says beside the values which environments gave one.
            *outer, own = key.split(".") if key not in infos else [key]
            given = value_of(infos, ".".join([*outer, f"_{own}"]))
            if given is not None and is_batch(given, len(places)):
                found[~np.array(given, np.bool_), column] = np.nan
        return found

    def _final_masks(self, places: range, truncated: NDArray[np.bool_], infos: Any) -> None:
        """Store the masks of the final observations of truncated episodes."""
        if not truncated.any():
            return
        masks = self._batch_masks(places, "final_info", infos.get("final_info"), ~truncated)
        self.batch.final_mask[places.start : places.stop][truncated] = masks[truncated]

    def _mode(self, places: range, env: Any) -> AutoresetMode:
        given = self._guard(places, "make", lambda: env.metadata.get("autoreset_mode"))
        if given is None and numbers(gymnasium_version()) < _WITH_MODES:
            return AutoresetMode.NEXT_STEP
        try:
            return AutoresetMode(getattr(given, "value", given))
        except ValueError:
            raise self._unit_fault(
                places,
                "make",
                f"metadata['autoreset_mode'] is {given!r}, expected a "
                "gymnasium.vector.AutoresetMode",
            ) from None

    def _wrong_mode(self, places: range, mode: AutoresetMode, found: str) -> EnvironmentFault:
        return self._unit_fault(
            places, "step", f"metadata['autoreset_mode'] is {mode.name}, but {found}"
        )


def _is_array(values: Any, kinds: tuple[Any, ...], count: int) -> bool:
    return isinstance(values, np.ndarray) and values.dtype in kinds and values.shape == (count,)
