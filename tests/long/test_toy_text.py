"""Every rule reaches its own fixed point on toy-text models, to within 1 % of the values' range.

As tests/unit/test_fixed_points.py, with more steps: in FrozenLake the start is far from the goal.
"""

import numpy as np
import pytest
from fixed_points import best, learned, uniform

from hpcq.learning import exact

GAMMA = 0.9


@pytest.mark.parametrize("id_", ["FrozenLake-v1", "Taxi-v4"])
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
def test_the_fixed_point_on_toy_text(id_, learning, worth):
    environment = {"id": id_, "count": 4096, "max_episode_steps": 100}
    exploration = {"policy": "uniform"}
    model, q, visits = learned(environment, {"gamma": GAMMA, **learning}, exploration, 60_000)
    truth = exact.fixed_point(model, GAMMA, worth)
    seen = visits >= 10_000
    # States that no episode acts in: holes, goals, and passengers that are where they want to be.
    acted_in = (visits > 0).any(axis=1)
    assert seen[acted_in].all()
    print(id_, learning, np.abs(q - truth)[seen].max() / np.ptp(truth))
    assert np.abs(q - truth)[seen].max() <= 0.01 * np.ptp(truth)
