"""Every rule converges to its own fixed point, known from the model.

To within 1 % of the range of the values; steps decrease (visits, exponent 0.75), gamma is at most
0.9, and every pair of state and action is updated at least 10,000 times. tests/long has the
toy-text models.
"""

import make_job
import numpy as np
import pytest
from fixed_points import best, learned, uniform

from hpcq.envs.resolve import resolve
from hpcq.learning import exact

GAMMA = 0.8
GARNET = {
    "id": "hpcq/Garnet-v0",
    "kwargs": {"states": 20, "actions": 3, "branching": 4, "seed": 1},
    "count": 1024,
}


def epsilon_greedy(q):
    return 0.3 * uniform(q) + 0.7 * best(q)


def boltzmann(q):
    weights = np.exp(q - best(q)[:, None])
    return (weights * q).sum(axis=1) / weights.sum(axis=1)


@pytest.mark.parametrize(
    ("learning", "exploration", "worth"),
    [
        ({}, {"policy": "uniform"}, best),
        ({"n_step": 3}, {"epsilon": 0.3}, best),
        ({"n_step": 5, "trace_decay": 0.6}, {"epsilon": 0.3}, best),
        ({"rule": "double_q"}, {"epsilon": 0.6}, best),
        ({"rule": "double_q", "n_step": 3}, {"epsilon": 0.6}, best),
        ({"rule": "maxmin", "tables": 3}, {"epsilon": 0.6}, best),
        ({"rule": "weighted_double_q"}, {"epsilon": 0.6}, best),
        ({"rule": "sarsa"}, {"epsilon": 0.3}, epsilon_greedy),
        ({"rule": "sarsa", "n_step": 3}, {"epsilon": 0.3}, epsilon_greedy),
        ({"rule": "sarsa"}, {"policy": "uniform"}, uniform),
        ({"rule": "expected_sarsa"}, {"epsilon": 0.3}, epsilon_greedy),
        ({"rule": "expected_sarsa", "n_step": 3}, {"policy": "uniform"}, uniform),
        ({"rule": "expected_sarsa"}, {"policy": "boltzmann", "temperature": 1.0}, boltzmann),
    ],
)
def test_the_fixed_point_on_a_garnet(learning, exploration, worth):
    model, q, visits = learned(GARNET, {"gamma": GAMMA, **learning}, exploration, 13_000)
    truth = exact.fixed_point(model, GAMMA, worth)
    assert (visits >= 10_000).all()
    assert np.abs(q - truth).max() <= 0.01 * np.ptp(truth)


def error_of_replay(**keys):
    """Return the largest error as a part of the range of the values."""
    environment = GARNET | {"count": 128}
    model, q, visits = learned(
        environment, {"gamma": GAMMA}, {"policy": "uniform"}, 12_000,
        ratio=2, capacity=128 * 400, **keys
    )  # fmt: skip
    truth = exact.fixed_point(model, GAMMA, best)
    assert (visits >= 10_000).all()
    return np.abs(q - truth).max() / np.ptp(truth)


ANNEALED = {"schedule": "linear", "start": 0.4, "end": 1.0, "steps": 700_000}


@pytest.mark.parametrize(
    "keys",
    [{}] + [{"sampling": "prioritised", "importance_exponent": beta} for beta in (1.0, ANNEALED)],
)
def test_replay_reaches_the_fixed_point(keys):
    assert error_of_replay(**keys) <= 0.01


def test_replay_by_priority_is_biased_where_weights_do_not_make_up_for_it():
    assert error_of_replay(sampling="prioritised", importance_exponent=0.0) > 0.02


def test_fixed_points_of_fixed_policies_are_those_of_the_linear_system():
    model = resolve(make_job.make(GARNET).environment).model
    truth = exact.policy_values(model, np.full((20, 3), 1 / 3), GAMMA)
    assert np.allclose(exact.fixed_point(model, GAMMA, uniform), truth, atol=1e-9)
