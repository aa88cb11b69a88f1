"""What the collectors of Gymnasium's Envs and VectorEnvs share.

They gather the results of all environments into arrays; one kernel records these in the batch.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.base import EnvBlock, end_episode
from hpcq.collectors.batch import Outcome, make_batch
from hpcq.collectors.infos import EpisodeInfos
from hpcq.collectors.validation import ValidatingCollector
from hpcq.envs import guest
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import MAX_REWARD
from hpcq.errors import CheckpointError, UnseededFault
from hpcq.hashing import mix64
from hpcq.jit.compiler import PrecompiledCall, kernel
from hpcq.rng import Purpose, tick_word
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import legal_actions, words_of

# What `inspect_step` finds, as bits.
ENDED, INVALID_RESET = 1, 2

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)

Flags = NDArray[np.bool_]


@kernel
def inspect_step(
    rewards: NDArray[np.float64], terminated: Flags, truncated: Flags, resetting: Flags
) -> np.int64:
    """Return what happened in one step of a VectorEnv, as bits.

    ENDED: an episode ended. INVALID_RESET: an environment that had only to reset itself returned a
    reward or ended.
    """
    found = np.int64(0)
    for i in range(rewards.size):
        ended = terminated[i] | truncated[i]
        found |= np.int64(ended) * ENDED
        found |= np.int64(resetting[i] & (ended | (rewards[i] != 0.0))) * INVALID_RESET
    return found


@kernel
def _record(
    batch: Any,
    keys: NDArray[np.uint64],
    finals: NDArray[np.uint64],
    rewards: NDArray[np.float64],
    terminated: Flags,
    truncated: Flags,
    resetting: Flags,
    ended: NDArray[np.int64],
    episode_stats: NDArray[np.float64],
) -> int:
    """Record one step of every environment in the batch.

    Parameters
    ----------
    keys, finals
        uint64 (n,): states to act in next, and final states of the episodes that ended.
    rewards
        float64 (n,), of at most MAX_REWARD in size.
    terminated, truncated
        bool (n,).
    resetting
        bool (n,): this was no step, the environment only reset itself.
    ended
        int64 (n + 1,), out: the environments whose episodes ended.

    Returns
    -------
    int
        how many episodes ended; -1, with nothing recorded, if a reward is invalid.
    """
    invalid = False
    for i in range(rewards.size):
        invalid |= not abs(rewards[i]) <= MAX_REWARD
    if invalid:
        return -1
    # Loops without branches vectorise.
    for i in range(keys.size):
        batch.next_hash[i] = mix64(keys[i])
    for i in range(rewards.size):
        batch.reward[i] = rewards[i]
        batch.episode_return[i] += 0.0 if resetting[i] else rewards[i]
    for i in range(resetting.size):
        batch.elapsed[i] += np.int32(not resetting[i])
    for i in range(resetting.size):
        outcome = _TRUNCATED if truncated[i] else _CONTINUES
        outcome = _TERMINATED if terminated[i] else outcome
        batch.outcome[i] = _RESET if resetting[i] else outcome
    count = 0
    for i in range(resetting.size):
        ended[count] = i
        count += (terminated[i] | truncated[i]) & (not resetting[i])
    for n in range(count):
        i = ended[n]
        batch.final_hash[i] = mix64(finals[i])
        end_episode(batch, i, episode_stats)
    return count


@kernel
def _set_next(batch: Any, indices: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
    """Let the environments `indices`, int64 (k,), act next in the states `keys`, uint64 (k,)."""
    for i in range(indices.size):
        batch.next_hash[indices[i]] = mix64(keys[i])


class GymnasiumCollector(ValidatingCollector):
    """A block of environments that Python steps; see `Collector`.

    An environment's own state cannot be saved. At reset ticks, one in `reset_every`, all episodes
    end as truncated and restart from seeds that follow from (seed, environment, tick), in every
    run: a run saved there resumes exactly. A run that stops elsewhere makes one more: `cutting`.

    A subclass makes the environments and implements `step`, `_reset_all` and `_reset_first`.

    Raises
    ------
    EnvironmentFault
        where an environment raises or breaks Gymnasium's contract, naming it, the tick, the
        episode and the action.
    """

    def __init__(self, environment: PythonEnvironment, env_block: EnvBlock) -> None:
        super().__init__(environment, env_block)
        self._masked, self._reproducible = environment.masked, environment.reproducible
        self.infos = EpisodeInfos(environment.info, env_block.count)
        self._resetting = np.zeros(env_block.count, np.bool_)
        self._ended = np.zeros(env_block.count + 1, np.int64)
        self._environments: list[Any] = []
        # As the environments return them.
        self._rewards: Any = []
        self._record_step, self._set_next = PrecompiledCall(_record), PrecompiledCall(_set_next)
        self._inspect_step = PrecompiledCall(inspect_step)

    def _reset_all(self) -> NDArray[np.uint64]:
        """Reset every environment from this tick's seeds; return the first states' keys."""
        raise NotImplementedError

    def _reset_first(self) -> NDArray[np.uint64]:
        """Reset the first environment, or unit, again; return its first states' keys."""
        raise NotImplementedError

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        self._tick = 0
        self._resetting[:] = False
        if not self.batch.hash.size:
            return
        keys = self._reset_all()
        # The first one twice: a run of an environment that ignores its seed cannot be resumed.
        again = self._reset_first() if self._reproducible else keys[:0]
        if not np.array_equal(again, keys[: again.size]):
            raise UnseededFault(str(self._fault(0, "reset", self._unseeded())))
        self.batch.next_hash[:] = mix64.py_func(keys)
        self.batch.outcome[:] = Outcome.RESET

    def restore(self, tick: int) -> None:
        """Restart every environment as at the reset tick at which it was saved."""
        self._tick = tick
        keys = self._reset_all()
        wrong = np.flatnonzero(mix64.py_func(keys) != self.batch.hash)
        if not self._reproducible:
            self._begin_elsewhere(keys)
        elif wrong.size:
            raise CheckpointError(
                f"environment {self._in_job[wrong[0]]} ({self._id}) does not restart in the state "
                f"in which tick {tick} was saved; reset(seed=...) must decide the first "
                "observation, or the run cannot be resumed"
            )

    def _unseeded(self) -> str:
        """Return what to say of a seed that does not decide the first observation."""
        return (
            f"seed {self._seeds()[0]} gave two different first observations: its runs would not "
            "repeat. Take all randomness from self.np_random; if it draws from random or "
            "numpy.random, set environment.seed_globals = true; if nothing can seed it, "
            "environment.reproducible = false accepts that"
        )

    def _begin_elsewhere(self, keys: NDArray[np.uint64]) -> None:
        """Go on in first states that are others than the saved ones; actions become legal."""
        batch = self.batch
        batch.hash[:] = batch.next_hash[:] = mix64.py_func(keys)
        if self._masked:
            batch.mask[:] = batch.next_mask
            legal = legal_actions(batch.mask, self._actions.count)
            wrong = ~legal[np.arange(len(legal)), batch.action]
            batch.action[wrong] = legal[wrong].argmax(axis=1)

    def close(self) -> None:
        """Close every environment; errors there are ignored, and those that never return left."""
        until = time.monotonic() + guest.CLOSE_SECONDS
        for environment in self._environments:
            guest.close(environment, until)

    def _record(
        self,
        keys: NDArray[np.uint64],
        finals: NDArray[np.uint64],
        rewards: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Record a step of every environment; return those whose episodes ended.

        Raises
        ------
        EnvironmentFault
            if a reward is not a finite number.
        """
        count = self._record_step(
            self.batch,
            keys,
            finals,
            rewards,
            terminated,
            truncated,
            self._resetting,
            self._ended,
            self.episode_stats,
        )
        if count < 0:
            raise self._invalid_reward(range(rewards.size), self._rewards)
        ended = self._ended[:count]
        if self.infos.keys:
            self.infos.values[self._resetting] = np.nan
            self.infos.add(self.infos.values)
            self.infos.end(ended)
        return ended

    def _truncate_all(self) -> None:
        """End all episodes that continue as truncated, and reset everything: a reset tick."""
        batch = self.batch
        continuing = batch.outcome == Outcome.CONTINUES
        batch.outcome[continuing] = Outcome.TRUNCATED
        batch.final_hash[continuing] = batch.next_hash[continuing]
        self._resetting[:] = False
        batch.next_hash[:] = mix64.py_func(self._reset_all())
        batch.elapsed[:] = 0
        batch.episode_return[:] = 0.0
        self.infos.clear()

    def _seeds(self) -> list[int]:
        """Return the seeds of this tick, distinct for all environments of the job."""
        word = int(tick_word(self._seed, self._tick, Purpose.RESET))
        return [(word + number) & 0x7FFFFFFF for number in self._in_job]


def warm_up(environment: PythonEnvironment) -> None:
    """Compile, or load from the cache, the kernels that stepping this environment uses."""
    codec = Codec(environment.observation)
    codec.encode_all([codec.decode(0)])
    batch = make_batch(1, words_of(environment.actions, environment.masked))
    keys, flags = np.zeros(1, np.uint64), np.zeros(1, np.bool_)
    ended = np.zeros(2, np.int64)
    inspect_step(np.zeros(1), flags, flags, flags)
    _set_next(batch, ended[:1], keys)
    _record(batch, keys, keys, np.zeros(1), flags, flags, flags, ended, np.zeros(3))
