"""Every rule reaches its own fixed point on FrozenLake, to within 1 % of the values' range.

As tests/unit/test_fixed_points.py, with more steps: uniform behaviour seldom comes near the goal.
"""

import numpy as np
import pytest
from fixed_points import best, learned, uniform

from hpcq.learning import exact

GAMMA = 0.9
RATE = {"schedule": "visits", "exponent": 0.85}


@pytest.mark.parametrize(
    ("learning", "worth"),
    [
        ({}, best),
        ({"n_step": 3}, best),
        ({"rule": "double_q"}, best),
        ({"rule": "sarsa"}, uniform),
        ({"rule": "sarsa", "n_step": 3}, uniform),
        ({"rule": "expected_sarsa"}, uniform),
    ],
)
def test_the_fixed_point_on_frozenlake(learning, worth):
    environment = {"id": "FrozenLake-v1", "count": 4096, "max_episode_steps": 100}
    learning = {"gamma": GAMMA, "learning_rate": RATE, **learning}
    model, q, visits = learned(environment, learning, {"policy": "uniform"}, 16_000)
    truth = exact.fixed_point(model, GAMMA, worth)
    # In holes and at the goal nothing is done.
    acted_in = (visits > 0).any(axis=1)
    assert (visits[acted_in] >= 10_000).all()
    assert np.abs(q - truth)[acted_in].max() <= 0.01 * np.ptp(truth)
