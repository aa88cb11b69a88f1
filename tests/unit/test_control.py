"""The compiled twins against Gymnasium's own environments, step by step."""

import gymnasium
import numpy as np
import pytest

from hpcq.envs.bundled import control
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import mix64
from hpcq.job.environment_section import EnvironmentSection
from hpcq.spaces.codec import Codec

TWINS = {
    "CartPole": "CartPole-v1",
    "MountainCar": "MountainCar-v0",
    "Acrobot": "Acrobot-v1",
    "Pendulum": "Pendulum-v1",
}


def make(name, **kwargs):
    return resolve(EnvironmentSection(id=f"hpcq/{name}-v0", kwargs=kwargs))


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_steps_as_gymnasium_does(name):
    twin, own = make(name), gymnasium.make(TWINS[name]).unwrapped
    rng, draw, ends = np.random.default_rng(0), np.uint64(0), 0
    for episode in range(60):
        observation, _ = own.reset(seed=episode)
        state = np.array(own.state, np.float64)
        assert np.allclose(control.state_of(twin, observation), state, atol=1e-6)
        # Energetic play reaches ends and bounds that random play does not.
        clever = episode % 2
        for _ in range(300):
            action = int(rng.integers(twin.actions))
            if clever and name == "MountainCar":
                action = 2 if state[1] >= 0 else 0
            if clever and name == "Acrobot":
                action = 2 if state[3] >= 0 else 0
            if clever and name == "Pendulum":
                action = 4 if state[1] >= 0 else 0
            given = action if name != "Pendulum" else np.array([action - 2.0])
            observation, reward, terminated, _, _ = own.step(given)
            found = twin.step(twin.model, state, action, draw)
            assert np.allclose(state, np.array(own.state, np.float64), rtol=0, atol=1e-10)
            assert abs(found[0] - reward) < 1e-10
            assert found[1] == terminated
            state[:] = own.state
            if terminated:
                ends += 1
                break
    assert ends > 10 or name == "Pendulum"


@pytest.mark.parametrize("name", TWINS)
def test_episodes_start_as_gymnasiums_do(name):
    twin, own = make(name), gymnasium.make(TWINS[name]).unwrapped
    draws = mix64.py_func(np.arange(4000, dtype=np.uint64))
    found, expected = np.zeros((4000, twin.numbers)), []
    for i, draw in enumerate(draws):
        twin.reset(twin.model, found[i], draw)
    for _ in range(1000):
        own.reset()
        expected.append(np.array(own.state, np.float64))
    expected = np.array(expected)
    spread = np.maximum(np.ptp(expected, axis=0), 1e-9)
    assert (np.abs(found.min(axis=0) - expected.min(axis=0)) < 0.02 * spread).all()
    assert (np.abs(found.max(axis=0) - expected.max(axis=0)) < 0.02 * spread).all()
    assert (np.abs(found.mean(axis=0) - expected.mean(axis=0)) < 0.06 * spread).all()
    correlation = np.corrcoef(found[:, : 1 if name == "MountainCar" else None].T)
    assert np.abs(correlation - np.eye(correlation.shape[0] if correlation.ndim else 1)).max() < 0.1


@pytest.mark.parametrize("name", TWINS)
def test_a_key_is_the_bins_of_its_state(name):
    twin = make(name, anywhere=True)
    codec = Codec(twin.observation)
    draws = mix64.py_func(np.arange(2000, dtype=np.uint64))
    bins = np.array(twin.observation["nvec"])
    low, width = twin.model.low, twin.model.width
    seen = set()
    for draw in draws:
        state = np.zeros(twin.numbers)
        twin.reset(twin.model, state, draw)
        key = int(twin.observe(twin.model, state))
        assert (codec.decode(key) == np.floor((state - low) / width)).all()
        seen.add(key)
        if name != "Pendulum":
            assert (codec.decode(int(twin.observe(twin.model, state + 1e6))) == bins - 1).all()
    assert len(seen) > 1000


def test_a_pendulum_looks_the_same_after_a_whole_turn():
    twin = make("Pendulum")
    for turn in (-4 * np.pi, 2 * np.pi):
        a, b = np.array([1.234, 3.0]), np.array([1.234 + turn, 3.0])
        assert twin.observe(twin.model, a) == twin.observe(twin.model, b)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("CartPole", {"bins": [3, 3]}, r"bins = \[3, 3\], expected a list of 4 integers"),
        ("Acrobot", {"bins": [3, 3, 0, 3]}, "bins = 0, expected an integer in 1"),
        ("Pendulum", {"torques": 1}, "torques = 1, expected an integer in 2"),
        ("MountainCar", {"anywhere": 1}, "anywhere = 1, expected true or false"),
    ],
)
def test_mistakes_are_explained(name, kwargs, message):
    with pytest.raises(JobError, match=message):
        make(name, **kwargs)
