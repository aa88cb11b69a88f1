"""Parts of observations and options of resets, against environments that say what they get."""

import gymnasium
import make_job
import numpy as np
import pytest
from gymnasium import spaces

from hpcq.envs.picking import PartsOfObservation, ResetOptions
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError

SPACES = {
    "box": (
        spaces.Box(np.float32([0, -1, 2]), np.float32([1, 5, 9])),
        np.float32([0.5, 4, 3]),
    ),
    "tuple": (spaces.Tuple([spaces.Discrete(n) for n in (2, 3, 4)]), (1, 2, 3)),
    "digits": (spaces.MultiDiscrete([2, 3, 4]), np.array([1, 2, 3])),
    "bits": (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8)),
}


class Shown(gymnasium.Env):
    """Shows one observation, and keeps the options of its resets."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, observation):
        self.observation_space, self.observation = space, observation

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.options = options
        return self.observation, {}

    def step(self, action):
        return self.observation, 0.0, False, False, {}


@pytest.mark.parametrize("kind", SPACES)
def test_the_parts_are_those_named_in_their_order(kind):
    env = PartsOfObservation(Shown(*SPACES[kind]), [2, 0])
    given = SPACES[kind][1]
    for found in (env.reset(seed=1)[0], env.step(0)[0]):
        assert list(found) == [given[2], given[0]]
        assert found in env.observation_space


def test_parts_of_a_dict_are_its_keys():
    space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(3)})
    env = PartsOfObservation(Shown(space, {"a": 1, "b": 2}), ["b"])
    assert env.reset()[0] == {"b": 2}
    assert list(env.observation_space.spaces) == ["b"]


@pytest.mark.parametrize("parts", [[3], ["a"], [0, 0], [-1]])
def test_parts_that_are_not_there_are_refused(parts):
    with pytest.raises(JobError, match=r"environment.observe = .*\[0, 1, 2\]"):
        PartsOfObservation(Shown(*SPACES["digits"]), parts)


def test_a_number_has_no_parts():
    with pytest.raises(JobError, match="an array of one dimension, a Tuple or a Dict"):
        PartsOfObservation(Shown(spaces.Discrete(3), 1), [0])


def test_every_reset_gets_the_options():
    env = ResetOptions(Shown(*SPACES["digits"]), {"low": 0.1})
    env.reset(seed=1, options={"more": 2})
    assert env.unwrapped.options == {"low": 0.1, "more": 2}


def test_a_job_names_them():
    # Cart poles that begin at rest at one place, seen by position and angle alone.
    section = make_job.make(
        {
            "id": "CartPole-v1",
            "reset_options": {"low": 0.01, "high": 0.01},
            "observe": [0, 2],
            "discretise": {"bins": [4], "low": [-1.0], "high": [1.0]},
        }
    ).environment
    environment = resolve(section)
    env = environment.make()
    assert env.reset(seed=3)[0].tolist() == pytest.approx([0.01, 0.01])
    assert len(env.observation_space.low) == 2
    with pytest.raises(JobError, match="leave out environment.vector"):
        resolve(section.model_copy(update={"vector": 2}))
