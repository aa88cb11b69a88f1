import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from hpcq.errors import JobError
from hpcq.job.environment_section import Levels
from hpcq.spaces.actions import Actions

PARTS = st.one_of(
    st.builds(lambda n, s: spaces.Discrete(n, start=s), st.integers(1, 4), st.integers(-3, 3)),
    st.lists(st.integers(1, 3), min_size=1, max_size=2).map(spaces.MultiDiscrete),
    st.integers(1, 3).map(spaces.MultiBinary),
    st.builds(lambda low: spaces.Box(low, low + 2, (2,), np.int16), st.integers(-3, 3)),
    st.just(spaces.MultiDiscrete([2, 3], start=[-1, 5])),
)
SPACES = PARTS | st.lists(PARTS, min_size=1, max_size=2).map(spaces.Tuple)
SPACES |= st.dictionaries(st.sampled_from("ab"), PARTS, min_size=1).map(spaces.Dict)


@given(SPACES)
def test_every_number_is_another_action_of_the_space(space):
    actions = Actions(space)
    each = actions.each(np.arange(actions.count))
    assert len(each) == actions.count
    assert all(space.contains(action) for action in each)
    assert len({repr(action) for action in each}) == actions.count
    assert all(repr(actions.one(n)) == repr(action) for n, action in enumerate(each))
    # A checkpoint keeps the description, and gives the same actions.
    again = Actions.described(json.loads(json.dumps(actions.description)))
    assert repr(again.each(np.arange(actions.count))) == repr(each)


def test_the_first_component_is_the_most_significant():
    found = Actions(spaces.MultiDiscrete([2, 3])).batch(np.arange(6))
    assert found.tolist() == [[a, b] for a in range(2) for b in range(3)]
    discrete = Actions(spaces.Discrete(3, start=5))
    assert (discrete.count, type(discrete.one(2))) == (3, np.int64)
    assert discrete.batch(np.array([2, 0])).tolist() == [7, 5]


def test_what_an_environment_does_to_an_action_changes_nothing():
    actions = Actions(spaces.MultiBinary(2))
    actions.one(3)[:] = 0
    actions.batch(np.array([3]))[:] = 0
    assert actions.one(3).tolist() == [1, 1]


def levels(**keys):
    return Levels.model_validate(keys)


def test_floats_take_the_values_that_the_job_gives():
    torque = spaces.Box(-2.0, 2.0, (1,))
    found = Actions(torque, levels(levels=[5])).batch(np.arange(5))
    assert found.dtype == np.float32
    assert found.ravel().tolist() == [-2, -1, 0, 1, 2]
    again = Actions.described(Actions(torque, levels(levels=[5])).description)
    assert again.batch(np.arange(5)).tobytes() == found.tobytes()
    assert Actions(torque, levels(levels=[1])).one(0).tolist() == [0]
    both = spaces.Box(np.array([-1.0, -np.inf]), np.array([1.0, np.inf]), dtype=np.float64)
    pairs = Actions(both, levels(values=[[-1, 1], [0, 0.5, 9]])).batch(np.arange(6))
    assert pairs.tolist() == [[a, b] for a in (-1, 1) for b in (0, 0.5, 9)]
    with pytest.raises(
        JobError, match="no bound in its space; give environment.discretise_actions"
    ):
        Actions(both, levels(levels=[3]))
    with pytest.raises(JobError, match="2 floats .*give levels or values"):
        Actions(both)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiBinary(17), "more than 65,536"),
        (spaces.MultiDiscrete([256, 257]), "more than 65,536"),
        (spaces.Box(0, 2**40, (1,), np.int64), "more than 65,536"),
        (spaces.Text(3), "expected Discrete, MultiDiscrete"),
    ],
)
def test_too_many_actions_or_none(space, message):
    with pytest.raises(JobError, match=message):
        Actions(space)
    assert Actions(spaces.MultiBinary(16)).count == 65_536
