import bisect

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.envs import tabular
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.rng import unit_interval

IDS = ["Taxi-v4", "FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1"]
# Those that the installed Gymnasium has.
IDS = [id_ for id_ in IDS if id_ in gymnasium.registry]
DRAWS = np.random.default_rng(3).integers(0, 2**64, 40, dtype=np.uint64)


class Scripted:
    """A random generator that returns one number."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def both(id_, **kwargs):
    compiled = resolve(EnvironmentSection(id=id_, kwargs=kwargs))
    return compiled, gymnasium.make(id_, **kwargs)


@pytest.mark.parametrize("id_", IDS)
def test_every_step_is_gymnasiums_step(id_):
    compiled, env = both(id_)
    env.reset(seed=0)
    inner = env.unwrapped
    draws = DRAWS if compiled.model.probability.shape[2] > 1 else DRAWS[:2]
    for state in range(env.observation_space.n):
        for action in range(env.action_space.n):
            for draw in draws:
                inner.s, inner.np_random = state, Scripted(unit_interval(draw))
                expected = inner.step(action)[:3]
                found = compiled.step(compiled.model, np.uint64(state), action, draw)
                assert found == expected


@pytest.mark.parametrize("id_", IDS)
def test_every_reset_is_gymnasiums_reset(id_):
    compiled, env = both(id_)
    inner = env.unwrapped
    for draw in np.random.default_rng(4).integers(0, 2**64, 2000, dtype=np.uint64):
        inner.np_random = Scripted(unit_interval(draw))
        assert compiled.reset(compiled.model, draw) == inner.reset()[0]


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e3)), min_size=1, max_size=40).filter(any),
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
)
def test_a_start_is_the_first_state_whose_running_sum_exceeds_the_draw(weights, draws):
    states = len(weights)
    shape = (states, 1, 1)
    nowhere = np.zeros(shape)
    model = tabular.table_model(
        np.ones(shape), nowhere, nowhere, nowhere, np.array(weights) / sum(weights)
    )
    sums = model.start_cumulative.tolist()
    for draw in [0, 2**64 - 1, *draws]:
        u = float(unit_interval(np.uint64(draw))) * sums[-1]
        expected = min(bisect.bisect_right(sums, u), states - 1)
        assert tabular.reset(model, np.uint64(draw)) == expected


@pytest.mark.parametrize("id_", IDS)
def test_spaces_and_time_limit_are_gymnasiums(id_):
    compiled, env = both(id_)
    assert compiled.observation == {"kind": "Discrete", "n": env.observation_space.n, "start": 0}
    assert compiled.actions == env.action_space.n
    assert compiled.max_episode_steps == env.spec.max_episode_steps


def test_kwargs_reach_the_model():
    compiled, env = both("FrozenLake-v1", is_slippery=False)
    assert compiled.model.probability.shape[2] == 1
    limited = resolve(EnvironmentSection(id="Taxi-v4", max_episode_steps=17))
    assert limited.max_episode_steps == 17
    env.close()


def test_a_taxi_whose_table_is_not_the_truth_is_stepped_in_python():
    if not hasattr(gymnasium.make("Taxi-v4").unwrapped, "fickle_passenger"):
        return  # an older Gymnasium, whose tables are all true
    section = {"id": "Taxi-v4", "kwargs": {"fickle_passenger": True}}
    assert not hasattr(resolve(EnvironmentSection(**section)), "model")
    with pytest.raises(JobError, match="cannot be compiled"):
        resolve(EnvironmentSection(**section, backend="compiled"))


@pytest.mark.parametrize(
    ("states", "actions", "branching"), [(100, 4, 5), (7, 1, 7), (3, 2, 1), (50_000, 2, 3)]
)
def test_garnet_is_a_model_of_the_asked_size(states, actions, branching):
    model = tabular.garnet(states, actions, branching, seed=5)
    assert model.probability.shape == (states, actions, branching)
    assert np.allclose(model.probability.sum(axis=2), 1, atol=1e-12)
    assert (model.probability >= 0).all()
    for row in model.next.reshape(-1, branching):
        assert len(set(row.tolist())) == branching
    assert model.next.min() >= 0
    assert model.next.max() < states
    again = tabular.garnet(states, actions, branching, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(model, again, strict=True))
    other = tabular.garnet(states, actions, branching, seed=6)
    assert not np.array_equal(model.reward, other.reward)


def test_sampled_frequencies_are_the_probabilities():
    model = tabular.garnet(5, 2, 4, seed=1)
    draws = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    found = np.zeros(5)
    for draw in draws:
        found[tabular.step(model, np.uint64(3), 1, draw)[0]] += 1
    expected = np.zeros(5)
    np.add.at(expected, model.next[3, 1], model.probability[3, 1])
    assert np.abs(found / draws.size - expected).max() < 5 * np.sqrt(0.25 / draws.size)


def test_a_draw_beyond_the_running_sum_takes_the_last_outcome():
    transitions = {
        0: {0: [(0.4, 0, 1.0, False), (0.6 - 1e-9, 1, 2.0, True)]},
        1: {0: [(1, 1, 0, True)]},
    }
    model = tabular.from_transitions(transitions, np.array([1.0, 0.0]))
    assert tabular.step(model, np.uint64(0), 0, np.uint64(2**64 - 1)) == (1, 2.0, True)
    assert tabular.step(model, np.uint64(1), 0, np.uint64(2**64 - 1)) == (1, 0.0, True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"states": 3}, "missing.*'actions'"),
        ({"states": 3, "actions": 2, "branching": 4}, r"branching = 4, expected an integer in 1"),
        ({"states": 3, "actions": 2, "brnching": 1}, "unexpected keyword argument 'brnching'"),
        ({"states": "x", "actions": 2}, "states = 'x', expected"),
        ({"states": 3, "actions": 2, "branching": 2, "seed": -1}, "seed = -1, expected"),
        ({}, "missing 2 required keyword-only arguments: 'states' and 'actions'"),
    ],
)
def test_bad_garnets_are_explained(kwargs, message):
    with pytest.raises(JobError, match=message):
        resolve(EnvironmentSection(id="hpcq/Garnet-v0", kwargs=kwargs))


def test_unknown_environments_are_explained():
    with pytest.raises(JobError, match=r"environment.id = 'Taxy-v4'.*Did you mean: `Taxi`"):
        resolve(EnvironmentSection(id="Taxy-v4"))
    with pytest.raises(JobError, match="CartPole-v1: observation space Box"):
        resolve(EnvironmentSection(id="CartPole-v1"))
