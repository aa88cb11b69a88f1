import tracemalloc

import make_job
import numpy as np
import pytest
import reference
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.hashing import mix64
from hpcq.learning.lockstep import LockstepLearner


def train(job, ticks):
    environment = resolve(job.environment)
    learner = LockstepLearner(job, environment, MPI.COMM_SELF)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    learner.close()
    return learner


def row(learner, key):
    return learner.shard.row(int(mix64.py_func(np.array([key], np.uint64))[0])).tolist()


@pytest.mark.parametrize(
    ("environment", "limit"),
    [
        (make_job.GARNET, None),
        ({**make_job.GARNET, "max_episode_steps": 7}, 7),
        ({"id": "Taxi-v4", "count": 20, "max_episode_steps": 30}, 30),
        ({"id": "FrozenLake-v1", "count": 9}, 100),
    ],
)
@pytest.mark.parametrize("rate", [0.3, {"schedule": "visits", "exponent": 0.7}])
def test_the_table_is_the_references_table_bit_for_bit(environment, limit, rate):
    learning = {"learning_rate": rate, "q_init": 0.25, "gamma": 0.95}
    job = make_job.make(environment, learning=learning, exploration={"epsilon": 0.3})
    learner = train(job, 300)
    by_visits = isinstance(rate, dict)
    expected = reference.learn(
        learner.environment.model,
        environments=environment["count"],
        ticks=300,
        seed=3,
        gamma=0.95,
        parameter=0.3,
        q_init=0.25,
        limit=limit,
        rate=lambda n, _: (1.0 + n) ** -0.7 if by_visits else rate,
    )
    assert len(learner.shard) == len(expected)
    assert {key: row(learner, key) for key in expected} == expected


def scripted(script, gamma=0.5, ticks=None, reset_every=1000):
    """Learn with rate 1, so that the last target of each state is its value."""
    job = make_job.make(
        {
            "id": "problems:Scripted-v0",
            "kwargs": {"script": script},
            "count": 1,
            "reset_every": reset_every,
        },
        learning={"gamma": gamma, "learning_rate": 1.0, "q_init": 100.0},
    )
    # One tick more: the last update waits for the next tick's message.
    learner = train(job, (len(script) if ticks is None else ticks) + 1)
    return {key: row(learner, key)[0] for key in range(10)}


def test_terminated_stops_bootstrapping_and_truncated_does_not():
    # 0 -> 1 -> 2 (terminated); 0 -> 3 -> 4 (truncated); values of unseen states are 100.
    script = [
        (1, 1.0, False, False),
        (2, 5.0, True, False),
        (3, 2.0, False, False),
        (4, 7.0, False, True),
        (5, 0.0, False, False),
    ]
    found = scripted(script)
    assert found[1] == 5.0  # terminated: the reward alone, not 5 + 0.5 * 100
    assert found[3] == 7.0 + 0.5 * 100.0  # truncated: bootstraps from 4, the last observation
    assert found[0] == 0.0 + 0.5 * 100.0  # the last one: 0 -> 5
    assert found[2] == found[4] == 100.0  # ends are never acted in


def test_terminated_and_truncated_at_once_is_terminated():
    assert scripted([(1, 3.0, True, True), (1, 3.0, True, True)])[0] == 3.0


def test_truncation_bootstraps_from_the_final_observation_not_the_reset_one():
    # 6 ends truncated in 7, whose value is learned first: 7 -> 8 terminated with reward 20.
    script = [
        (7, 0.0, False, False),
        (8, 20.0, True, False),
        (6, 0.0, False, False),
        (7, 1.0, False, True),
        (9, 0.0, True, False),
    ]
    assert scripted(script)[6] == 1.0 + 0.5 * 20.0


def test_a_quiet_tick_is_a_truncation():
    # Every third step is quiet: 0 -> 1 -> 2 -> 3, cut, and the script starts again from 0.
    script = [(n, float(n), False, False) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    found = scripted(script, ticks=9, reset_every=3)
    assert found[2] == 3.0 + 0.5 * 100.0
    assert found[3] == 100.0
    assert found[0] == 1.0 + 0.5 * found[1]


def test_the_same_state_from_many_environments_compounds_in_order():
    job = make_job.make(
        {"id": "problems:Scripted-v0", "kwargs": {"script": [[1, 1.0, True, False]]}, "count": 4},
        learning={"gamma": 0.5, "learning_rate": 0.5},
    )
    learner = train(job, 2)
    # Four updates with target 1 from 0: 1 - 2**-4.
    assert row(learner, 0) == [1 - 2.0**-4]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_schedules_count_environment_steps(dtype):
    job = make_job.make(
        {"id": "problems:Scripted-v0", "kwargs": {"script": [[1, 1.0, True, False]]}, "count": 2},
        learning={
            "learning_rate": {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 8},
            "dtype": dtype,
        },
    )
    # Tick 2 (step 4) applies both updates of tick 1 at rate 0.5: 0.5, then 0.75.
    learner = train(job, 2)
    assert row(learner, 0) == [0.75]
    assert learner.steps == 4


def test_a_tick_allocates_nothing_that_grows_with_the_environments():
    job = make_job.make({**make_job.GARNET, "count": 100_000})
    learner = train(job, 20)
    learner.advance()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        learner.advance()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Any array over the environments, even of bytes, would be 100,000.
    assert peak - before < 60_000
