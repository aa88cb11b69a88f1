"""Inventory, queue and blackjack against published results and plain simulation."""

import gymnasium
import numpy as np
import pytest

from hpcq.envs import tabular
from hpcq.envs.bundled.blackjack import HIT, STICK
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import mix64
from hpcq.job.environment_section import EnvironmentSection
from hpcq.learning import exact


def make(name, **kwargs):
    return resolve(EnvironmentSection(id=f"hpcq/{name}-v0", kwargs=kwargs))


def average_reward(model, sweeps=400):
    """Return the most that a step can earn in the long run, by relative value iteration."""
    value = np.zeros(model.start.size)
    for _ in range(sweeps):
        new = exact.action_values(model, value, 1.0).max(axis=1)
        gain = new - value
        value = new - new.max()
    assert gain.max() - gain.min() < 1e-9
    return gain.max()


# Zipkin 2008: Poisson demand with mean 5, holding 1, lost sale 4.
@pytest.mark.parametrize(("lead_time", "published"), [(1, 4.04), (2, 4.40)])
def test_the_inventorys_least_cost_is_the_published_one(lead_time, published):
    model = make("Inventory", lead_time=lead_time, largest_order=15).model
    assert abs(-average_reward(model) - published) < 0.005


def test_an_inventory_with_a_lead_time_worked_by_hand():
    environment = make("Inventory", lead_time=3, capacity=9, largest_order=4)
    model = environment.model
    sizes = (10, 5, 5)
    state = np.ravel_multi_index((6, 3, 2), sizes)
    for demand, (stock, cost) in {0: (9, 6.0), 4: (5, 2.0), 6: (3, 0.0), 8: (3, 8.0)}.items():
        assert np.unravel_index(model.next[state, 1, demand], sizes) == (stock, 2, 1)
        assert model.reward[state, 1, demand] == -cost
    assert np.allclose(model.probability.sum(axis=2), 1.0)
    mean = (model.probability[0, 0] * np.arange(model.probability.shape[2])).sum()
    assert abs(mean - 5.0) < 1e-6


@pytest.mark.parametrize("reward", [5.0, 12.0, 40.0])
def test_the_queues_threshold_is_naors(reward):
    arrival, service = 0.3, 0.5
    model = make("Admission", arrival=arrival, service=service, reward=reward).model
    value = np.zeros(model.start.size)
    for _ in range(4000):
        value = exact.action_values(model, value, 1.0).max(axis=1)
        value -= value[0]
    q = exact.action_values(model, value, 1.0).reshape(21, 2, 2)
    admits = q[:20, 1, 1] > q[:20, 1, 0] + 1e-9
    # Naor: the largest n with (n (1 - rho) - rho (1 - rho^n)) / (1 - rho)^2 <= reward * service.
    # A customer costs from the step of admission on, one step more than in his continuous time.
    rho = arrival / service
    n = np.arange(1, 40)
    cost = (n * (1 - rho) - rho * (1 - rho**n)) / (1 - rho) ** 2
    threshold = int((cost <= reward * service).sum())
    assert admits.tolist() == [queue < threshold for queue in range(20)]


@pytest.mark.parametrize(("idle", "kind", "action"), [(10, 3, 1), (4, 0, 1), (4, 1, 0), (0, 2, 1)])
def test_access_control_does_what_drawn_servers_do(idle, kind, action):
    payments, rng = [1.5, 2.0, 3.0, 7.0], np.random.default_rng(2)
    model = make("AccessControl", servers=12, free=0.1, payments=payments).model
    taken = action == 1 and idle > 0
    found = 12 - idle + taken - rng.binomial(12 - idle + taken, 0.1, 40_000)
    s = idle * 4 + kind
    assert model.reward[s, action, 0] == (payments[kind] if taken else 0.0)
    chance = np.zeros(13 * 4)
    np.add.at(chance, model.next[s, action], model.probability[s, action])
    busy = 12 - np.arange(13)
    drawn = np.array([(found == n).mean() for n in busy])
    assert np.allclose(chance.reshape(13, 4), chance.reshape(13, 4)[:, :1])
    assert np.abs(chance.reshape(13, 4).sum(axis=1) - drawn).max() < 0.015
    assert chance.sum() == pytest.approx(1.0)


def test_the_best_customers_are_always_taken():
    """Sutton and Barto, figure 10.5: by payment and by free servers, a threshold."""
    model = make("AccessControl").model
    value = np.zeros(model.start.size)
    for _ in range(2000):
        value = exact.action_values(model, value, 1.0).max(axis=1)
        value -= value[0]
    q = exact.action_values(model, value, 1.0).reshape(11, 4, 2)
    taken = q[1:, :, 1] > q[1:, :, 0]
    assert taken[:, 3].all()
    assert not taken[0, :2].any()
    assert (np.diff(taken.astype(int), axis=0) >= 0).all()
    assert (np.diff(taken.astype(int), axis=1) >= 0).all()


CARDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10]


def dealers_score(card, rng):
    """Play a dealer's hand as Gymnasium does; return (score, natural)."""
    hand = [card]

    def total():
        return sum(hand) + 10 * (1 in hand and sum(hand) + 10 <= 21)

    hand.append(rng.choice(CARDS))
    natural = total() == 21
    while total() < 17:
        hand.append(rng.choice(CARDS))
    return (total() if total() <= 21 else 0), natural


def state(*observation):
    return int(np.ravel_multi_index(observation, (32, 11, 2, 2)))


@pytest.mark.parametrize("observation", [(18, 10, 0, 0), (15, 1, 1, 0), (21, 1, 1, 1)])
def test_sticking_pays_what_simulated_dealers_pay(observation):
    model, rng = make("Blackjack").model, np.random.default_rng(1)
    total, dealer, _, natural = observation
    rewards = []
    for _ in range(20_000):
        score, dealers_natural = dealers_score(dealer, rng)
        won = natural and not dealers_natural
        rewards.append(1.0 if won else float(np.sign(total - score)))
    s = state(*observation)
    expected = (model.probability[s, STICK] * model.reward[s, STICK]).sum()
    assert abs(np.mean(rewards) - expected) < 5 * np.std(rewards) / np.sqrt(len(rewards))


def test_the_optimal_hand_is_sutton_and_bartos():
    """Figure 5.2, the notch at a soft 18 against an ace included."""
    model = make("Blackjack").model
    q = exact.value_iteration(model, 1.0).reshape(32, 11, 2, 2, 2)
    for usable in (0, 1):
        for dealer in range(1, 11):
            if usable:
                sticks = 18 if 2 <= dealer <= 8 else 19
            else:
                sticks = 17 if dealer in (1, 7, 8, 9, 10) else 12 if dealer in (4, 5, 6) else 13
            for total in range(12, 22):
                gap = q[total, dealer, usable, 0, STICK] - q[total, dealer, usable, 0, HIT]
                assert (gap > 0) == (total >= sticks), (total, dealer, usable)


def test_the_optimal_hand_returns_in_gymnasium_what_the_model_says():
    model = make("Blackjack").model
    q = exact.value_iteration(model, 1.0)
    expected = model.start @ q.max(axis=1)
    best = q.argmax(axis=1)
    game, returns = gymnasium.make("Blackjack-v1"), []
    seen, _ = game.reset(seed=4)
    for _ in range(20_000):
        done, reward = False, 0.0
        while not done:
            # At a sum of 21 both kinds of hand stick.
            seen, reward, done, _, _ = game.step(int(best[state(*map(int, seen), 0)]))
        returns.append(reward)
        seen, _ = game.reset()
    assert abs(np.mean(returns) - expected) < 5 * np.std(returns) / np.sqrt(len(returns))


def test_the_first_hands_are_dealt_as_gymnasium_deals_them():
    environment = make("Blackjack")
    keys = [
        int(tabular.reset(environment.model, draw))
        for draw in mix64.py_func(np.arange(40_000, dtype=np.uint64))
    ]
    totals, _, usable, natural = np.unravel_index(keys, (32, 11, 2, 2))
    rng = np.random.default_rng(0)
    hands = rng.choice(CARDS, (40_000, 2))
    ace = (hands == 1).any(axis=1)
    for found, expected in (
        ((natural == 1).mean(), 2 * 4 / 169),
        ((usable == 1).mean(), ace.mean()),
        (totals.mean(), (hands.sum(axis=1) + 10 * ace).mean()),
    ):
        assert abs(found - expected) < 0.1


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Inventory", {"lead_time": 0}, "lead_time = 0, expected an integer in 1 ... 6"),
        ("Inventory", {"lead_time": 6}, "outcomes of all states and actions, expected at most"),
        ("Admission", {"service": 0.7}, r"service = 0.7, expected a number in 0 ... 0.6"),
        ("Blackjack", {"sab": 1}, "sab = 1, expected true or false"),
    ],
)
def test_mistakes_are_explained(name, kwargs, message):
    with pytest.raises(JobError, match=message):
        make(name, **kwargs)
