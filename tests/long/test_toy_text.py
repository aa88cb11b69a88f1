"""Every rule reaches its own fixed point on toy text, to within 1 % of the range of the values.

As tests/unit/test_fixed_points.py, with more steps: uniform behaviour seldom comes to the goal of
FrozenLake, along the cliff, or to Taxi's passenger.
"""

import numpy as np
import pytest
from fixed_points import best, learned, uniform

from hpcq.learning import exact

GAMMA = 0.9
RULES = {
    "q_learning": ({}, best),
    "q_learning, 3 steps": ({"n_step": 3}, best),
    "double_q": ({"rule": "double_q"}, best),
    "sarsa": ({"rule": "sarsa"}, uniform),
    "sarsa, 3 steps": ({"rule": "sarsa", "n_step": 3}, uniform),
    "expected_sarsa": ({"rule": "expected_sarsa"}, uniform),
}
# Environment: states in which something is done, time limit, exponent of the learning rate, ticks.
MODELS = {
    "FrozenLake-v1": (11, 100, 0.85, 4_000),
    "CliffWalking-v1": (37, 200, 0.8, 6_000),
    "Taxi-v4": (400, 1000, 0.8, 8_500),
}


# Times as many ticks: what is taken next has more chance in it than the best, and its value, seldom
# met with, has a longer way from 0.
LONGER = {
    ("CliffWalking-v1", "sarsa, 3 steps"): 4,
    ("Taxi-v4", "sarsa"): 4,
    ("Taxi-v4", "sarsa, 3 steps"): 4,
    ("Taxi-v4", "expected_sarsa"): 4,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("id_", MODELS)
def test_the_fixed_point(id_, rule):
    (learning, worth), (states, limit, exponent, ticks) = RULES[rule], MODELS[id_]
    rate = {"schedule": "visits", "exponent": exponent}
    model, q, visits = learned(
        {"id": id_, "count": 16_384, "max_episode_steps": limit},
        {"gamma": GAMMA, "learning_rate": rate, **learning},
        {"policy": "uniform"},
        # A coin decides which of two tables is updated.
        ticks * (2 if "double_q" in rule else LONGER.get((id_, rule), 1)),
    )
    truth = exact.fixed_point(model, GAMMA, worth)
    # In holes and at the goal nothing is done; some positions of Taxi cannot be reached.
    acted_in = (visits > 0).any(axis=1)
    assert acted_in.sum() == states
    least, q, truth = visits[acted_in].min(), q[acted_in], truth[acted_in]
    error = np.abs(q - truth).max() / np.ptp(truth)
    print(f"{id_}, {rule}: every pair {least:,.0f} times or more, error {error:.2%}")
    assert least >= 10_000
    assert error <= 0.01
