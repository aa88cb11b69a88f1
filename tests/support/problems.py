"""Environments for tests. Job files reach them as ``problems:Name``, Gymnasium imports them."""

import contextlib
import io
import os
import random
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from ranks_of_launcher import own_rank

from hpcq.collectors import vector

# Gymnasium 1.0 has none.
AutoresetMode = getattr(gymnasium.vector, "AutoresetMode", vector.AutoresetMode)


class Corridor(gymnasium.Env):
    """Walk on a line of `length` cells, slipping at random; the right end pays 1 and ends."""

    def __init__(self, length=8, start=0):
        self.observation_space = spaces.Tuple(
            [spaces.Discrete(length), spaces.MultiDiscrete([2, 2])]
        )
        self.action_space = spaces.Discrete(2, start=start)
        self.length = length

    def _observation(self):
        return self.at, [self.at % 2, self.flag]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(self.length // 2))
        self.flag = 0
        return self._observation(), {}

    def step(self, action):
        move = 1 if action == self.action_space.start + 1 else -1
        if self.np_random.random() < 0.2:
            move = -move
        self.flag = int(self.np_random.integers(2))
        self.at = min(max(self.at + move, 0), self.length - 1)
        ended = self.at == self.length - 1
        return self._observation(), 1.0 if ended else -0.01, ended, False, {}


class Scripted(gymnasium.Env):
    """Play given transitions over and over: a list of (observation, reward, terminated, truncated).

    Every episode starts with observation 0. Actions change nothing.
    """

    def __init__(self, script, states=10, actions=1):
        self.observation_space = spaces.Discrete(states)
        self.action_space = spaces.Discrete(actions)
        self.script = script
        self.at = 0

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.at = 0
        return 0, {}

    def step(self, action):
        observation, reward, terminated, truncated = self.script[self.at % len(self.script)]
        self.at += 1
        return observation, reward, terminated, truncated, {}


class Broken(Scripted):
    """Go wrong in one environment, known by its seed's place, at its `after`-th step."""

    made = 0

    def __init__(self, how, after=3, only=None):
        super().__init__([(1, 0.0, False, False)])
        self.how, self.after = how, after
        self.mine = only is None or own_rank() == str(only)
        if how == "make" and self.mine:
            raise RuntimeError("cannot be made")

    def step(self, action):
        taken = super().step(action)
        if self.at < self.after or not self.mine:
            return taken
        if self.how == "raise":
            raise RuntimeError("the user's bug")
        if self.how == "exit":
            raise SystemExit(0)
        if self.how == "sleep":
            time.sleep(3600)
        if self.how == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "close":
            return taken
        return {
            "none": (1, None, False, False, {}),
            "text": (1, "one", False, False, {}),
            "huge": (1, 10**400, False, False, {}),
            "array": (1, 0.0, np.zeros(2), False, {}),
            "outside": (77, 0.0, False, False, {}),
            "nan": (1, float("nan"), False, False, {}),
            "infinite": (1, float("inf"), False, False, {}),
            "old": (1, 0.0, False, {}),
            "kind": ("1", 0.0, False, False, {}),
        }[self.how]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.how == "unseeded":
            Broken.made += 1
        return Broken.made % self.observation_space.n, {}

    def close(self):
        if self.how == "close":
            raise RuntimeError("cannot be closed")


class Careless(gymnasium.Env):
    """Draws from the global generators alone, normal numbers among them."""

    observation_space = spaces.Discrete(1 << 40)
    action_space = spaces.Discrete(2)

    def __init__(self, unseeded=False):
        self.unseeded = unseeded
        self.offset = random.randrange(5)

    def reset(self, *, seed=None, options=None):
        self.at = time.perf_counter_ns() % (1 << 40) if self.unseeded else random.randrange(1000)
        return self.at, {}

    def step(self, action):
        self.at = int(self.at + self.offset + 3 * np.random.randn() + random.random()) % 20  # noqa: NPY002
        return self.at, float(self.at == 7), self.at == 7, False, {}


class Odd(BaseException):
    """Neither an Exception nor able to say what it is."""

    def __str__(self):
        raise ValueError("no text")


class Unwilling:
    """Raises whatever it is asked."""

    def _raise(self, *_):
        raise Odd

    __float__ = __int__ = __index__ = __bool__ = __repr__ = __array__ = __len__ = _raise


def raised(error):
    """Raise it."""
    raise error


class Thief(gymnasium.Env):
    """Each one takes the standard streams away in another manner."""

    observation_space = spaces.Discrete(10)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, fails=False):
        self.fails, self.how = fails, Thief.made % 8
        Thief.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if self.how == 1 and stream is not None:
                stream.close()
            elif self.how == 3 and hasattr(stream, "buffer"):
                stream.buffer.close()
            elif self.how == 5 and isinstance(stream, io.TextIOWrapper):
                with contextlib.suppress(ValueError):
                    stream.detach()
            elif self.how == 6:
                setattr(sys, name, io.StringIO())
            elif self.how == 7:
                setattr(sys, name, None)
        if self.how == 4:
            for number in (1, 2):
                with contextlib.suppress(OSError):
                    os.close(number)
        return 0, {}

    def step(self, action):
        if self.fails and self.how == 5:
            raise ValueError("stolen \udcff")
        return int(self.np_random.integers(10)), 0.0, False, False, {}


class Bad(gymnasium.Env):
    """Break Gymnasium's contract in step 3, or where `how` says."""

    observation_space = spaces.Dict(x=spaces.Box(-1, 1, (2,)), y=spaces.Discrete(4))
    action_space = spaces.MultiDiscrete([2, 2])

    def __init__(self, how="", after=3):
        if how == "make":
            raise TypeError("the constructor's own mistake")
        self.how, self.after, self.steps = how, after, 0

    def reset(self, *, seed=None, options=None):
        observation = {"x": np.zeros(2, np.float32), "y": 1}
        return {
            "no info": observation,
            "two": (observation, observation["x"]),
            "old": [observation, {}],
        }.get(self.how, (observation, {}))

    def step(self, action):
        assert isinstance(action, np.ndarray)
        assert action.dtype == np.int64
        # Whatever it does to the action is its own affair.
        action += 7
        self.steps += 1
        x, y = np.array([0.5, -0.5], np.float32), 2
        good = ({"x": x, "y": y}, 1.0, False, False, {})
        if self.steps < self.after:
            return good
        if self.how == "action dtype":
            raise TypeError(f"expected an int32, not {action.dtype}")
        if self.how.startswith("raise "):
            raise {"exit": GeneratorExit("done"), "odd": Odd()}[self.how[6:]]
        return {
            "shape": ({"x": np.zeros(3), "y": y}, *good[1:]),
            "scalar": ({"x": 0.5, "y": y}, *good[1:]),
            "text": ({"x": np.array(["a", "b"]), "y": y}, *good[1:]),
            "nan": ({"x": np.array([0, np.nan]), "y": y}, *good[1:]),
            "outside": ({"x": x, "y": 4}, *good[1:]),
            "float": ({"x": x, "y": 2.0}, *good[1:]),
            "missing": ({"x": x}, *good[1:]),
            "extra": ({"x": x, "y": y, "z": 0}, *good[1:]),
            "tuple": ((x, y), *good[1:]),
            "nothing": None,
            "reward": (good[0], None, *good[2:]),
            "reward nan": (good[0], np.float32("nan"), *good[2:]),
            "flag": (*good[:2], "yes", False, {}),
            "flags": (*good[:2], np.zeros(2, bool), False, {}),
            "unwilling reward": (good[0], Unwilling(), *good[2:]),
            "unwilling x": ({"x": Unwilling(), "y": y}, *good[1:]),
            "unwilling y": ({"x": x, "y": Unwilling()}, *good[1:]),
            "unwilling flag": (*good[:2], Unwilling(), False, {}),
            "long": ({"x": x, "y": 10**5000}, *good[1:]),
            "long reward": (good[0], 10**5000, *good[2:]),
            "rewards": (good[0], np.ones(2), *good[2:]),
            "four": (*good[:3], {}),
        }.get(self.how, good)


def reset_on_end(env, note="wrapped"):
    """A wrapper that is a function."""
    env.note = note
    return env


def scaled(env, low: np.ndarray, high=np.ones(2), names: list | np.ndarray | None = None):  # noqa: B008
    """A wrapper that wants arrays."""
    env.low, env.high, env.names = low, high, names
    return env


class Choosy(gymnasium.Env):
    """Gives the legal actions within the observation; pays minus infinity for others."""

    observation_space = spaces.Dict(at=spaces.Discrete(6), action_mask=spaces.MultiBinary(3))
    action_space = spaces.Discrete(3)

    def _observation(self):
        return {"at": self.at, "action_mask": np.arange(3) != self.at % 3}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(6))
        return self._observation(), {}

    def step(self, action):
        reward = -np.inf if action == self.at % 3 else float(self.at == 5)
        self.at = int(self.np_random.integers(6))
        return self._observation(), reward, False, False, {}


class Numbered(Corridor):
    """Knows its own number."""

    made: list = []  # noqa: RUF012

    def __init__(self, number, folder, more=None):
        super().__init__()
        Numbered.made.append((number, folder, more))


class OldGym:
    """As if it were of the package gym."""

    __module__ = "gym.envs"

    def close(self):
        pass


class OldStyle(gymnasium.Env):
    """Gymnasium's class with old gym's methods."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def __init__(self, how):
        if how == "step":
            self.reset = lambda seed=None, options=None: (0, {})

    def reset(self):
        return 0

    def step(self, action):
        return 0, 0.0, False, {}


def make_vector():
    """A function whose result alone tells that it makes a VectorEnv."""
    return ScriptedVector(2, "DISABLED")


class ScriptedVector(VectorEnv):
    """Environments whose every transition is known, in one of the three autoreset modes.

    Episode k of environment i takes `lengths[(i + k) % len(lengths)]` steps and ends terminated if
    k is even, truncated if it is odd, both if it is a multiple of 4. No state is seen twice between
    resets with a seed. True transitions go to `log`, whatever the mode makes of them:
    (state, action, reward, next state, terminated, truncated).
    """

    log: list = []  # noqa: RUF012

    def __init__(self, num_envs, mode, lengths=(3, 1, 4), lie=None):
        self.metadata = {"autoreset_mode": AutoresetMode[mode]}
        self.mode, self.lengths, self.lie = AutoresetMode[lie or mode], lengths, lie
        self.num_envs = num_envs
        self.single_observation_space = spaces.Discrete(1_000_000)
        self.single_action_space = spaces.Discrete(3, start=1)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        if options is None or self.mode != AutoresetMode.DISABLED:
            self.base = (seed or 0) % 1000 * 1000
            self.places = [self.base + 100 * i for i in range(self.num_envs)]
            self.episodes = [0] * self.num_envs
            self.elapsed = [0] * self.num_envs
            self.over = [False] * self.num_envs
        else:
            for i in np.flatnonzero(options["reset_mask"]):
                assert self.over[i]
                self._restart(i)
        return np.array(self.places), {}

    def _restart(self, i):
        self.places[i] += 1
        self.episodes[i] += 1
        self.elapsed[i] = 0
        self.over[i] = False

    def step(self, actions):
        assert actions.shape == (self.num_envs,)
        assert ((actions >= 1) & (actions <= 3)).all()
        rewards, ends = np.zeros(self.num_envs), np.zeros((2, self.num_envs), bool)
        finals = np.full(self.num_envs, None, object)
        for i, action in enumerate(actions.tolist()):
            if self.over[i]:
                assert self.mode == AutoresetMode.NEXT_STEP
                self._restart(i)
                continue
            before, k = self.places[i], self.episodes[i]
            self.places[i] += 1
            self.elapsed[i] += 1
            rewards[i] = before % 7 + action
            if self.elapsed[i] == self.lengths[(i + k) % len(self.lengths)]:
                ends[:, i] = k % 2 == 0, k % 2 == 1 or k % 4 == 0
                self.over[i] = True
            self.log.append((before, action, rewards[i], self.places[i], *ends[:, i].tolist()))
            if self.over[i] and self.mode == AutoresetMode.SAME_STEP:
                finals[i] = self.places[i]
                self._restart(i)
        infos = {"final_obs": finals} if any(final is not None for final in finals) else {}
        return np.array(self.places), rewards, *ends, infos


class BrokenVector(ScriptedVector):
    """Go wrong from step `after` on, in the last environment where it can be told."""

    def __init__(self, num_envs, how, after, mode="NEXT_STEP"):
        super().__init__(num_envs, mode)
        self.how, self.after, self.steps = how, after, 0
        if how == "mode":
            self.metadata = {"autoreset_mode": "none"}

    def step(self, actions):
        observations, rewards, terminated, truncated, infos = super().step(actions)
        self.steps += 1
        if self.steps >= self.after:
            if self.how == "raise":
                raise RuntimeError("the user's bug")
            if self.how == "short":
                return observations[:-1], rewards, terminated, truncated, infos
            if self.how == "rewards":
                return observations, rewards[:-1], terminated, truncated, infos
            if self.how == "scalar":
                return observations, rewards, False, truncated, infos
            if self.how == "nan":
                rewards[-1] = np.nan
            if self.how == "outside":
                observations[-1] = -1
            if self.how == "old":
                return observations, rewards, terminated, infos
            if self.how == "final":
                infos = {"final_obs": np.full(self.num_envs, -1, object)}
        return observations, rewards, terminated, truncated, infos

    def reset(self, *, seed=None, options=None):
        observations, infos = super().reset(seed=seed, options=options)
        return observations if self.how == "reset" else (observations, infos)


class Mirrored(gymnasium.Env):
    """Six actions in a MultiDiscrete space that does not begin at 0; each leads somewhere else."""

    def __init__(self):
        self.observation_space = spaces.Discrete(6)
        self.action_space = spaces.MultiDiscrete([2, 3], start=[5, -1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return int(self.np_random.integers(6)), {}

    def step(self, action):
        assert action in self.action_space
        number = int(action[0] - 5) * 3 + int(action[1] + 1)
        return number, float(number), bool(self.np_random.random() < 0.2), False, {}


class Drawn(gymnasium.Env):
    """Three steps; the picture gets brighter with each."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.observation_space = spaces.Discrete(4)
        self.action_space = spaces.Discrete(2)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.at, {}

    def step(self, action):
        self.at += 1
        return self.at, 0.0, self.at == 3, False, {}

    def render(self):
        return np.full((4, 4, 3), 60 * self.at, np.uint8)


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=20)
gymnasium.register("Scripted-v0", entry_point=Scripted)
gymnasium.register("Broken-v0", entry_point=Broken)
gymnasium.register("Bad-v0", entry_point=Bad)


def mask_of(place):
    """Return the legal actions of a state: each by itself, pairs, and all."""
    return [1 + place % 7 >> a & 1 for a in range(3)]


class MaskedVector(ScriptedVector):
    """Tell the legal actions, take no others; what `lie` says is wrong with the masks."""

    def __init__(self, num_envs, mode, wrong=None):
        super().__init__(num_envs, mode)
        self.wrong = wrong

    def _masks(self, places):
        return np.array([mask_of(place) for place in places], np.int8)

    def reset(self, *, seed=None, options=None):
        observations, infos = super().reset(seed=seed, options=options)
        return observations, {**infos, "action_mask": self._masks(self.places)}

    def step(self, actions):
        for i, action in enumerate(actions.tolist()):
            waits = self.over[i] and self.mode == AutoresetMode.NEXT_STEP
            assert waits or mask_of(self.places[i])[action - 1], "an illegal action"
        *taken, infos = super().step(actions)
        infos["action_mask"] = self._masks(self.places)
        if "final_obs" in infos:
            finals = [0 if final is None else final for final in infos["final_obs"]]
            infos["final_info"] = {"action_mask": self._masks(finals)}
            if self.wrong == "final":
                del infos["final_info"]
        if self.wrong == "count":
            infos["action_mask"] = infos["action_mask"][1:]
        return *taken, infos


class Masked(gymnasium.Env):
    """Walk from 0 on by 1 to 3, by legal steps only; what `wrong` says is wrong with the masks."""

    def __init__(self, wrong=None, actions=3):
        self.observation_space = spaces.Discrete(200)
        self.action_space = spaces.Discrete(actions)
        self.wrong = wrong

    def _info(self):
        mask = mask_of(self.at)
        if self.at >= 100:
            mask = [0, 0, 0]
        elif self.at >= 6 and self.wrong == "shape":
            mask = mask[1:]
        elif self.at >= 6 and self.wrong == "nothing legal":
            mask = [0, 0, 0]
        elif self.at >= 6 and self.wrong == "text":
            mask = "101"
        elif self.at >= 6 and self.wrong == "missing":
            return {}
        return {"action_mask": np.array(mask, np.int8) if isinstance(mask, list) else mask}

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return self.at, self._info()

    def step(self, action):
        assert mask_of(self.at)[action], "an illegal action"
        self.at += 1 + int(action)
        return self.at, -1.0, self.at >= 100, False, self._info()


class Slow(gymnasium.Env):
    """A random walk; a step sleeps for `seconds`, and ten times as long on the rank `slow`."""

    def __init__(self, slow=None, seconds=20e-6):
        self.observation_space = spaces.Discrete(100)
        self.action_space = spaces.Discrete(2)
        mine = own_rank() == str(slow)
        self.seconds = 10 * seconds if mine else seconds

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 50
        return self.at, {}

    def step(self, action):
        time.sleep(self.seconds)
        self.at += 2 * int(action) - 1
        ended = self.at in (0, 99)
        return self.at, float(ended), ended, False, {}


class Turns(Scripted):
    """Say that two players take turns."""

    metadata = {"self_play": True}  # noqa: RUF012

    def __init__(self):
        super().__init__([[1, 0.0, False, False]])


class Heap(gymnasium.Env):
    """Two players in turn take one to three; who takes the last wins. Metadata may say that."""

    observation_space = spaces.Discrete(13)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 13))
        return self.left, {}

    def step(self, action):
        self.left = max(0, self.left - int(action) - 1)
        return self.left, float(self.left == 0), self.left == 0, False, {}


class DeclaredHeap(Heap):
    """Say that there are two players."""

    metadata = {"self_play": True}  # noqa: RUF012


class Telling(gymnasium.Env):
    """Episodes of 1, 2, 3, 1, 2, 3 ... steps; the infos tell their costs and how they end."""

    def __init__(self):
        self.observation_space, self.action_space = spaces.Discrete(4), spaces.Discrete(2)
        self.length = 0

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.length = 0
        self.length = self.length % 3 + 1
        self.at = 0
        return 0, {"cost": 1e6}

    def step(self, action):
        self.at += 1
        ended = self.at == self.length
        info = {"cost": 0.5, "deep": {"at": self.at}}
        if ended:
            info["success"] = self.length == 3
        return self.at, 0.0, ended, False, info


def telling_vector(num_envs, mode):
    """Return a VectorEnv of `Telling`, in an autoreset mode."""
    mode = AutoresetMode[mode]
    kwargs = {"autoreset_mode": mode} if hasattr(gymnasium.vector, "AutoresetMode") else {}
    return gymnasium.vector.SyncVectorEnv([Telling] * num_envs, **kwargs)


class Mistelling(Telling):
    """Its costs are words."""

    def step(self, action):
        return *super().step(action)[:4], {"cost": "dear"}
