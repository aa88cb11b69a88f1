"""A call of `advance` that does many ticks does the same as many calls that do one."""

import make_job
import pytest
from compiled_once import compile_once

from hpcq.envs.resolve import resolve
from hpcq.learning.modes import make_learner

# Its table grows within a call, from nothing to thousands of rows.
LARGE = {"id": "hpcq/Garnet-v0", "count": 64, "kwargs": {"states": 20_000, "actions": 3}}
SHRINKING = {"schedule": "polynomial", "start": 0.9, "steps": 5000, "exponent": 0.7}
CASES = {
    "lockstep": make_job.make(LARGE, exploration={"epsilon": SHRINKING}),
    "returns of 4 steps": make_job.make(
        LARGE, learning={"n_step": 4, "learning_rate": SHRINKING, "gamma": 0.9}
    ),
    "continuous": make_job.make({"id": "hpcq/CartPole-v0", "count": 24, "reset_every": 50}),
    "periodic": make_job.make(LARGE, mode={"kind": "periodic", "merge_every": 20}),
}
TICKS = 200

pytestmark = pytest.mark.mpi


def learner_of(job, comm):
    compile_once(job)
    learner = make_learner(job, resolve(job.environment), comm)
    learner.begin()
    return learner


@pytest.mark.parametrize("case", CASES)
def test_many_ticks_in_a_call_are_the_same_ticks(case, comm):
    one_by_one, at_once = learner_of(CASES[case], comm), learner_of(CASES[case], comm)
    while one_by_one.tick < TICKS:
        one_by_one.advance()
    calls = 0
    while at_once.tick < TICKS:
        at_once.advance(last=TICKS)
        calls += 1
    assert at_once.tick == TICKS
    assert at_once.digest() == one_by_one.digest()
    assert at_once.take_episode_stats() == one_by_one.take_episode_stats()
    one_by_one.close()
    at_once.close()


def test_a_flag_ends_the_call_of_every_rank_after_the_same_tick(comm):
    learner = learner_of(CASES["lockstep"], comm)
    last = comm.rank == comm.size - 1
    assert learner.advance(flags=2 if last else 0, last=TICKS) == 2
    assert comm.allgather(learner.tick) == [1] * comm.size
    # Rows of one rank: it has a flag from then on.
    rows = 300 if last else 10**9
    # On a busy machine a call may end for a look at the clock before.
    flags = 0
    while not flags and learner.tick < TICKS:
        flags = learner.advance(last=TICKS, most_rows=rows, full=8)
    assert flags == 8
    assert len(set(comm.allgather(learner.tick))) == 1
    assert 1 < learner.tick < TICKS
    assert comm.bcast(len(learner.shard) > 300, comm.size - 1)
    learner.close()
