"""TD targets worked by hand: every rule on transitions that are known."""

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import hashes_of
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.lockstep import LockstepLearner

# Two actions; in state 1 they are worth 4 and 8, in state 2 they are worth 6 and 2.
ROWS = {1: [4.0, 8.0], 2: [6.0, 2.0]}
HASHES = {key: hashes_of(np.array([key], np.uint64))[0] for key in range(10)}


def learner_of(script, rows, learning, exploration, seed=3):
    """Return a learner that plays a script from state 0 on, with rows given."""
    kwargs = {"script": script, "actions": 2}
    job = make_job.make(
        {"id": "problems:Scripted-v0", "kwargs": kwargs, "count": 1},
        learning={"gamma": 0.5, "learning_rate": 1.0, **learning},
        exploration=exploration,
        run={"seed": seed},
    )
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    for key, row in sorted(rows.items(), key=lambda item: HASHES[item[0]]):
        hashes = np.array([HASHES[key]], np.uint64)
        learner.shard.load(hashes, np.array([row]), np.zeros((1, 0), np.uint32))
    learner.begin()
    return learner


def target(script, learning, exploration=None, rows=ROWS, ticks=1):
    """Return what the action taken in state 0 is worth after so many steps."""
    learner = learner_of(script, rows, learning, exploration or {"epsilon": 0.0})
    action = learner.collector.batch.action[0]
    # The update goes with the messages of the tick after.
    for _ in range(ticks + 1):
        learner.advance()
    return learner.shard.row(int(HASHES[0]))[int(action) :: 2]


TO_1 = [(1, 3.0, False, False), (9, 0.0, False, False)]


@pytest.mark.parametrize(
    ("rule", "exploration", "expected"),
    [
        ("q_learning", {"epsilon": 1.0}, 3 + 0.5 * 8),
        ("negamax", {"epsilon": 1.0}, 3 - 0.5 * 8),
        ("sarsa", {"policy": "greedy"}, 3 + 0.5 * 8),
        ("expected_sarsa", {"epsilon": 0.5}, 3 + 0.5 * (0.5 * 6 + 0.5 * 8)),
        ("expected_sarsa", {"policy": "uniform"}, 3 + 0.5 * 6),
        # The weights of 4 and 8 are exp(-1) and 1.
        (
            "expected_sarsa",
            {"policy": "boltzmann", "temperature": 4.0},
            3 + 0.5 * (4 * np.exp(-1) + 8) / (np.exp(-1) + 1),
        ),
    ],
)
def test_one_step(rule, exploration, expected):
    assert target(TO_1, {"rule": rule}, exploration)[0] == pytest.approx(expected, abs=1e-12)


def test_sarsa_bootstraps_from_the_action_that_is_taken():
    learner = learner_of(TO_1, ROWS, {"rule": "sarsa"}, {"policy": "uniform"})
    action = learner.collector.batch.action[0]
    learner.advance()
    following = learner.collector.batch.action[0]
    learner.advance()
    assert learner.shard.row(int(HASHES[0]))[action] == 3 + 0.5 * ROWS[1][following]


def test_double_q_asks_the_other_table():
    # q1 prefers action 1, which q2 gives 20; q2 prefers action 0, which q1 gives 4.
    rows = {1: [4.0, 8.0, 30.0, 20.0]}
    first, second = target(TO_1, {"rule": "double_q"}, rows=rows)
    assert (first, second) in [(3 + 0.5 * 20, 0.0), (0.0, 3 + 0.5 * 4)]


@pytest.mark.parametrize(
    ("constant", "first", "second"),
    [
        # Of q1 the best action is 1, the worst 0, and of q2 the other way round; the gaps are 10 in
        # q2 and 4 in q1, so that the weights of 6 are 10 / 16 and 4 / 10.
        (6.0, (10 * 8 + 6 * 20) / 16, (4 * 30 + 6 * 4) / 10),
        # As one table that values its own best action, and as double Q-learning.
        (0.0, 8, 30),
        (1e30, 20, 4),
    ],
)
def test_weighted_double_q_is_between_both_tables(constant, first, second):
    rows = {1: [4.0, 8.0, 30.0, 20.0]}
    learning = {"rule": "weighted_double_q", "weight_constant": constant}
    mine, other = target(TO_1, learning, rows=rows)
    expected = (3 + 0.5 * first, 0.0) if other == 0.0 else (0.0, 3 + 0.5 * second)
    assert (mine, other) == pytest.approx(expected, abs=1e-12)


def test_weighted_double_q_of_equal_values_is_that_of_the_other_table():
    """Where both actions are worth the same to it, a constant of 0 says nothing."""
    rows = {1: [4.0, 8.0, 5.0, 5.0]}
    learning = {"rule": "weighted_double_q", "weight_constant": 0.0}
    assert sorted(target(TO_1, learning, rows=rows)) in ([0.0, 3 + 0.5 * 5], [0.0, 3 + 0.5 * 4])


TO_2 = [(1, 3.0, False, False), (2, 5.0, False, False), (9, 7.0, False, False)]


@pytest.mark.parametrize(
    ("learning", "expected"),
    [
        ({"n_step": 2}, 3 + 0.5 * (5 + 0.5 * 6)),
        ({"rule": "negamax", "n_step": 2}, 3 - 0.5 * (5 - 0.5 * 6)),
        ({"rule": "sarsa", "n_step": 2}, 3 + 0.5 * (5 + 0.5 * 6)),
        # Half of the one-step return, 3 + 0.5 * 8, and half of the other.
        ({"n_step": 2, "trace_decay": 0.5}, 0.5 * 7 + 0.5 * (3 + 0.5 * (5 + 0.5 * 6))),
        ({"n_step": 2, "trace_decay": 0.0}, 3 + 0.5 * 8),
    ],
)
def test_two_steps(learning, expected):
    assert target(TO_2, learning, ticks=2)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("rule", "off_policy", "last"),
    [
        ("q_learning", True, 6),
        ("expected_sarsa", False, 4),
    ],
)
def test_a_return_ends_at_the_first_action_that_is_not_greedy(rule, off_policy, last):
    seen = set()
    for seed in range(6):
        learning, policy = {"rule": rule, "n_step": 2}, {"policy": "uniform"}
        learner = learner_of(TO_2, ROWS, learning, policy, seed)
        actions = learner.collector.batch.action
        first = actions[0]
        learner.advance()
        greedy = actions[0] == 1
        for _ in range(2):
            learner.advance()
        expected = 3 + 0.5 * (8 if off_policy and not greedy else 5 + 0.5 * last)
        assert learner.shard.row(int(HASHES[0]))[first] == expected
        seen.add(bool(greedy))
    assert seen == {False, True}


@pytest.mark.parametrize("rule", ["sarsa", "double_q"])
def test_a_truncated_episode_asks_with_a_draw_of_its_own(rule):
    # Two states with the same values: the last one of an episode, and the first of the next.
    rows = {1: [4.0, 8.0] if rule == "sarsa" else [4.0, 4.0, 8.0, 8.0]}
    rows[0] = rows[1]
    found = set()
    for seed in range(24):
        script = [(1, 3.0, False, True)]
        learner = learner_of(script, rows, {"rule": rule}, {"policy": "uniform"}, seed)
        actions = learner.collector.batch.action
        first = actions[0]
        learner.advance()
        following = actions[0]
        learner.advance()
        row = learner.shard.row(int(HASHES[0]))
        changed = row[int(first) :: 2] - np.array(rows[0][int(first) :: 2])
        found.add((int(following), tuple(changed.tolist())))
    # Neither the next action nor a fixed table says what the target is.
    assert len({following for following, _ in found}) == 2
    assert all(len({c for f, c in found if f == following}) > 1 for following in (0, 1))


@pytest.mark.parametrize(
    ("environment", "rule", "words"),
    [
        ({"id": "hpcq/TicTacToe-v0"}, "sarsa", "that of the player to move"),
        ({"id": "hpcq/Garnet-v0", "kwargs": {"states": 9, "actions": 2}}, "negamax", "no two play"),
        ({"id": "Taxi-v4"}, "negamax", "no two players"),
        ({"id": "CliffWalking-v1", "backend": "python"}, "negamax", "no two players"),
        ({"id": "problems:Turns"}, "q_learning", "that of the player to move"),
    ],
)
def test_rules_that_do_not_fit_the_environment_are_refused(environment, rule, words):
    job = make_job.make({**environment, "count": 1}, learning={"rule": rule})
    with pytest.raises(JobError, match=f"learning.rule = '{rule}', but in .*{words}"):
        Algorithm.of(job, resolve(job.environment))


def test_negamax_in_an_environment_of_ones_own():
    for id_, kwargs in (("problems:Turns", {}), ("problems:Scripted-v0", {"script": TO_1})):
        job = make_job.make({"id": id_, "kwargs": kwargs}, learning={"rule": "negamax"})
        assert Algorithm.of(job, resolve(job.environment)).sign == -1.0
