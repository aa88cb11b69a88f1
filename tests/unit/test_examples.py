"""Sutton and Barto, "Reinforcement Learning", 2018: examples 6.6 and 6.7."""

from typing import NamedTuple

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.protocol import CompiledEnvironment, kernel
from hpcq.envs.resolve import resolve
from hpcq.hashing import unmix64
from hpcq.learning.lockstep import LockstepLearner
from hpcq.rng import second_draw, unit_interval


def table_of(learner, states):
    """Return the mean Q (states, actions); 0 where there is no row."""
    actions = learner.algorithm.actions
    q = np.zeros((states, actions))
    for hashes, values, _ in learner.shard.pieces(states):
        keys = unmix64.py_func(hashes).astype(np.int64)
        q[keys] = values.reshape(hashes.size, -1, actions).mean(axis=1)
    return q


class Bandits(NamedTuple):
    """Copies of example 6.7, each of them an experiment of its own."""

    copies: np.uint64


LEFT, RIGHT, CHOICES = 0, 1, 10


@kernel
def bandit_reset(model, draw):
    """Begin an episode in any copy, in its state A (0); B is 1."""
    return draw % model.copies * np.uint64(2)


@kernel
def bandit_step(model, key, action, draw):
    """Go left from A to B for nothing, right to the end; every action of B pays N(-0.1, 1)."""
    if key % np.uint64(2) == np.uint64(0):
        return key + np.uint64(1), 0.0, action == RIGHT
    radius = np.sqrt(-2.0 * np.log(1.0 - unit_interval(draw)))
    normal = radius * np.cos(2.0 * np.pi * unit_interval(second_draw(draw)))
    return key, normal - 0.1, True


@kernel
def bandit_legal(model, key):
    """Two actions in A, all ten in B."""
    return np.uint64(3) if key % np.uint64(2) == np.uint64(0) else np.uint64(1023)


def left_share(rule, copies=2000, episodes=300):
    """Return the share of actions to the left after every 10 episodes of a copy."""
    job = make_job.make(
        {
            "id": "hpcq/Garnet-v0",
            "kwargs": {"states": 1, "actions": CHOICES, "branching": 1},
            "count": 100,
        },
        learning={"rule": rule, "learning_rate": 0.1, "gamma": 1.0},
        exploration={"epsilon": 0.1},
    )
    environment = CompiledEnvironment(
        "example 6.7",
        {"kind": "Discrete", "n": 2 * copies, "start": 0},
        CHOICES,
        resolve(job.environment).action,
        Bandits(np.uint64(copies)),
        bandit_reset,
        bandit_step,
        None,
        legal=bandit_legal,
    )
    learner = LockstepLearner(job, environment, MPI.COMM_SELF, by_phase)
    learner.begin()
    shares = []
    while (done := learner.collector.batch.episodes.sum()) < copies * episodes:
        if done >= copies * 10 * len(shares):
            q = table_of(learner, 2 * copies)[::2]
            left = np.where(q[:, LEFT] == q[:, RIGHT], 0.5, q[:, LEFT] > q[:, RIGHT])
            shares.append(0.05 + 0.9 * left.mean())
        learner.advance()
    return np.array(shares)


def test_double_q_learning_has_less_maximisation_bias():
    # Figure 6.5: Q-learning first learns to go left far more often than right, double Q-learning
    # never does; 5 % is the optimum with epsilon = 0.1.
    single, double = left_share("q_learning"), left_share("double_q")
    assert single[0] == double[0] == 0.5
    assert single.max() > 0.85
    assert double.max() == 0.5
    assert (double[1:] < single[1:] - 0.04).all()
    assert double[-1] < 0.1


def greedy_path(q):
    """Return the cells of CliffWalking (4 x 12) on the greedy way from the start to the goal."""
    row, column, path = 3, 0, []
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    while (row, column) != (3, 11) and len(path) < 50:
        path.append((row, column))
        down, right = moves[int(q[12 * row + column].argmax())]
        row, column = row + down, column + right
    return path


@pytest.mark.parametrize(("rule", "safe"), [("q_learning", False), ("sarsa", True)])
def test_q_learning_walks_along_the_cliff_and_sarsa_keeps_away(rule, safe):
    job = make_job.make(
        {"id": "CliffWalking-v1", "count": 64, "max_episode_steps": 500},
        learning={
            "rule": rule,
            "gamma": 1.0,
            "learning_rate": {"schedule": "linear", "start": 0.5, "end": 0.005, "steps": 1_500_000},
        },
        exploration={"epsilon": 0.1},
    )
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    for _ in range(30_000):
        learner.advance()
    path = greedy_path(table_of(learner, 48))
    edge = [cell for cell in path if cell[0] == 2 and 0 < cell[1] < 11]
    if safe:
        assert edge == []
        assert 14 < len(path) < 20
    else:
        assert len(edge) == 10
        assert len(path) == 13
