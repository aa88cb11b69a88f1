"""A walk with more actions than a word holds, of which few are legal, as in a job shop.

Legal actions are all beyond the first word in some states, and on both sides of words in others.
Job files reach ``wide:SHOP`` (101 actions), ``wide:WIDE`` (200), compiled; ``wide:OWN``, which is
SHOP by kernels of its own; ``wide:Walk`` in Python, and ``wide:walks`` as a VectorEnv.
"""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from hpcq import compiled_environment, kernel, permit
from hpcq.envs.tabular import table_environment, table_model
from hpcq.spaces.masks import bitsets

STATES = 28
# An illegal action leads here, and nothing else does.
WRONG = STATES
LIMIT = 9


@kernel
def is_legal(state, action, actions):
    """Return whether an action is legal."""
    kind = state % 7
    if kind == 0:
        return action >= 64 and action % 5 == state % 5
    if kind == 1:
        return action in (63, 64)
    if kind == 2:
        return action in ((127, 128) if actions > 128 else (0, actions - 1))
    if kind == 3:
        return action in (0, 62, 63, 64, 65, actions - 1)
    if kind == 5:
        return action == actions - 1
    return kind == 4 or action % 3 == 0


def legal_of(state, actions):
    """Return the legal actions of a state, ascending."""
    return [a for a in range(actions) if is_legal.py_func(state, a, actions)]


@kernel
def follow(state, action, k):
    """Return (probability, next state, reward, terminated) of outcome 0 or 1."""
    to = (5 * state + 3 * action + 1 + 2 * k) % STATES
    return 0.25 if k else 0.75, to, (2.0 * state + action) % 7.0 - 3.0, to == 11


def table(actions):
    """Return the environment as a table, its states and WRONG."""
    shape = (STATES + 1, actions, 2)
    probability, reward = np.full(shape, 0.5), np.zeros(shape)
    following, terminated = np.full(shape, WRONG), np.ones(shape, bool)
    masks = np.ones((STATES + 1, actions), bool)
    for state in range(STATES):
        masks[state] = np.isin(np.arange(actions), legal_of(state, actions))
        for action in legal_of(state, actions):
            for k in range(2):
                place = state, action, k
                probability[place], following[place], reward[place], terminated[place] = (
                    follow.py_func(state, action, k)
                )
    start = np.arange(STATES + 1) < 4
    model = table_model(probability, following, reward, terminated, start / 4, bitsets(masks))
    return table_environment("wide", model, LIMIT)


SHOP, WIDE = table(101), table(200)


@kernel
def _legal(model, key, mask):
    for action in range(101):
        if is_legal(np.int64(key), action, 101):
            permit(mask, action)


@kernel
def _outcome(model, key, action, k):
    if not is_legal(np.int64(key), action, 101):
        return 0.5, np.uint64(WRONG), 0.0, True
    probability, to, reward, terminated = follow(np.int64(key), action, k)
    return probability, np.uint64(to), reward, terminated


@kernel
def _start(model, i):
    return 0.25, np.uint64(i)


OWN = compiled_environment(
    observation=STATES + 1,
    actions=101,
    outcome=_outcome,
    outcomes=2,
    start=_start,
    starts=4,
    legal=_legal,
    max_episode_steps=LIMIT,
)


class Walk(gymnasium.Env):
    """The same in Python; takes no illegal action."""

    def __init__(self, actions=101):
        self.observation_space = spaces.Discrete(STATES)
        self.action_space = spaces.Discrete(actions)

    def _legal(self):
        return legal_of(self.at, self.action_space.n)

    def _info(self):
        mask = np.zeros(self.action_space.n, np.int8)
        mask[self._legal()] = 1
        return {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.elapsed = int(self.np_random.integers(4)), 0
        return self.at, self._info()

    def step(self, action):
        assert action in self._legal(), "an illegal action"
        k = int(self.np_random.random() >= 0.75)
        _, self.at, reward, terminated = follow.py_func(self.at, int(action), k)
        self.elapsed += 1
        return self.at, reward, terminated, self.elapsed >= LIMIT, self._info()


class Narrow(Walk):
    """The first few actions are legal, however many there are."""

    def _legal(self):
        return list(range(3 + self.at % 4))


def walks(num_envs, max_episode_steps=None, actions=101, **kwargs):
    """Return a VectorEnv of them."""
    return SyncVectorEnv([lambda: Walk(actions)] * num_envs, **kwargs)
