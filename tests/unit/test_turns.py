"""Another turn for the same player, as the pages say it: a turn of the other one that passes."""

import make_job
import numpy as np
import pytest
from mpi4py import MPI

from hpcq import compiled_environment, kernel
from hpcq.hashing import mix64
from hpcq.learning.lockstep import LockstepLearner

HEAP = 9


@kernel
def reset(model, draw):
    return np.uint64(2 * HEAP)


@kernel
def step(model, key, action, draw):
    """Take 1 or 2 stones; who takes 1 plays again; who takes the last one has won.

    The key is twice the heap, plus 1 where the player to move has to pass.
    """
    heap = np.int64(key >> np.uint64(1))
    if key & np.uint64(1):
        return np.uint64(2 * heap), 0.0, False
    left = max(heap - 1 - action, 0)
    again = action == 0 and left > 0
    return np.uint64(2 * left + again), 1.0 if left == 0 else 0.0, left == 0


def truth():
    """Return the values of all heaps for the player to move."""
    values = [0.0]
    for heap in range(1, HEAP + 1):
        one = 1.0 if heap == 1 else values[heap - 1]
        two = 1.0 if heap <= 2 else -values[heap - 2]
        values.append(max(one, two))
    return values


def test_negamax_finds_the_values_of_the_game():
    job = make_job.make(
        {"id": "hpcq/Nim-v0", "count": 16},
        learning={"rule": "negamax", "gamma": 1.0, "learning_rate": 1.0},
        exploration={"policy": "uniform"},
    )
    game = compiled_environment(reset, step, observation=2 * HEAP + 2, actions=2, self_play=True)
    learner = LockstepLearner(job, game, MPI.COMM_SELF)
    learner.begin()
    for _ in range(600):
        learner.advance()
    keys = 2 * np.arange(1, HEAP + 1, dtype=np.uint64)
    found = [learner.shard.row(int(hash_)).max() for hash_ in mix64.py_func(keys)]
    assert found == pytest.approx(truth()[1:])
    assert 0 < sum(value > 0 for value in found) <= HEAP
