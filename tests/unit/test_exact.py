import numpy as np
import pytest

from hpcq.envs import tabular
from hpcq.envs.resolve import resolve
from hpcq.job.environment_section import EnvironmentSection
from hpcq.learning import exact


def toy(id_, **kwargs):
    return resolve(EnvironmentSection(id=id_, kwargs=kwargs)).model


def two_states():
    """Stay in 0 for reward 1, or go to 1 for 0; state 1 pays 3 once and ends."""
    transitions = {
        0: {0: [(1.0, 0, 1.0, False)], 1: [(1.0, 1, 0.0, False)]},
        1: {0: [(1.0, 0, 3.0, True)], 1: [(1.0, 0, 3.0, True)]},
    }
    return tabular.from_transitions(transitions, np.array([1.0, 0.0]))


def test_value_iteration_worked_by_hand():
    # Staying is worth 1 / (1 - gamma); leaving 3 gamma. gamma = 0.5: stay, 2 against 1.5.
    q = exact.value_iteration(two_states(), 0.5)
    assert np.allclose(q, [[2.0, 1.5], [3.0, 3.0]], atol=1e-10)


def test_policy_values_worked_by_hand():
    # Half and half: v = (1 + v/2) / 2 + (3/2) / 2 gives v = 5/3.
    uniform = np.full((2, 2), 0.5)
    q = exact.policy_values(two_states(), uniform, 0.5)
    assert np.allclose(q, [[1 + 5 / 6, 1.5], [3, 3]], atol=1e-12)


def test_expected_return_is_finite_for_a_policy_that_never_ends():
    stay = np.array([[1.0, 0.0], [1.0, 0.0]])
    leave = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert exact.expected_return(two_states(), stay, 200) == 200.0
    assert exact.expected_return(two_states(), leave, 200) == 3.0
    assert exact.expected_return(two_states(), leave, 1) == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.8, 0.99])
def test_the_optimum_solves_bellmans_equation_and_beats_every_policy(gamma):
    model = tabular.garnet(40, 3, 4, seed=2)
    q = exact.value_iteration(model, gamma)
    assert np.allclose(q, exact.action_values(model, q.max(axis=1), gamma), atol=1e-9)
    best = exact.policy_values(model, exact.greedy(q), gamma)
    assert np.allclose(best, q, atol=1e-8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        policy = rng.dirichlet(np.ones(3), 40)
        assert (exact.policy_values(model, policy, gamma) <= q + 1e-9).all()


def test_greedy_shares_ties():
    q = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0 - 1e-12]])
    assert exact.greedy(q).tolist() == [[0.5, 0.5, 0], [0, 1, 0]]
    assert exact.greedy(q, 1e-9).tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5]]


# Sutton and Barto, example 6.6: 13 steps along the edge. Gymnasium's registry: 0.74 on the 4x4 map.
@pytest.mark.parametrize(
    ("id_", "gamma", "horizon", "published", "tolerance"),
    [
        ("CliffWalking-v1", 1.0, 1000, -13.0, 0.0),
        ("Taxi-v4", 0.99, 200, 7.93, 0.005),
        ("FrozenLake-v1", 0.999, 100, 0.74, 0.005),
    ],
)
def test_published_optima(id_, gamma, horizon, published, tolerance):
    model = toy(id_)
    policy = exact.greedy(exact.value_iteration(model, gamma), 1e-9)
    assert abs(exact.expected_return(model, policy, horizon) - published) <= tolerance


def test_a_return_agrees_with_played_episodes():
    model, horizon = toy("FrozenLake-v1"), 100
    policy = exact.greedy(exact.value_iteration(model, 0.99), 1e-9)
    actions = policy.argmax(axis=1)
    deterministic = np.eye(4)[actions]
    expected = exact.expected_return(model, deterministic, horizon)
    rng = np.random.default_rng(0)
    returns = []
    for _ in range(4000):
        state, total = np.uint64(0), 0.0
        for draw in rng.integers(0, 2**64, horizon, dtype=np.uint64):
            state, reward, ended = tabular.step(model, np.uint64(state), actions[int(state)], draw)
            total += reward
            if ended:
                break
        returns.append(total)
    assert abs(np.mean(returns) - expected) < 5 * np.std(returns) / np.sqrt(len(returns))


def test_no_optimum_is_claimed_where_value_iteration_does_not_settle():
    assert exact.value_iteration(two_states(), 1.0, sweeps=1000) is None
