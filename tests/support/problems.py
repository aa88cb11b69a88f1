"""Environments for tests. Job files reach them as ``problems:Name``, Gymnasium imports them."""

import os
import signal
import time

import gymnasium
import numpy as np
from gymnasium import spaces


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

    Every episode starts with observation 0. The one action changes nothing.
    """

    def __init__(self, script, states=10):
        self.observation_space = spaces.Discrete(states)
        self.action_space = spaces.Discrete(1)
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
        self.mine = only is None or os.environ.get("OMPI_COMM_WORLD_RANK", "0") == str(only)
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


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=20)
gymnasium.register("Scripted-v0", entry_point=Scripted)
gymnasium.register("Broken-v0", entry_point=Broken)
