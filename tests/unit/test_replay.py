import make_job
import numpy as np
import pytest
import reference
from mpi4py import MPI

from hpcq.envs import resolve
from hpcq.errors import JobError
from hpcq.hashing import hashes_of
from hpcq.job.job import Job
from hpcq.job.sections import ReplaySection
from hpcq.learning.learner import Learner
from hpcq.run.estimate import estimate


def with_replay(job, **keys):
    return job.model_copy(update={"replay": ReplaySection(**keys)})


def trained(job, ticks):
    learner = Learner(job, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    learner.close()
    return learner


@pytest.mark.parametrize("rule", ["q_learning", "double_q", "expected_sarsa", "sarsa"])
@pytest.mark.parametrize(
    ("environment", "limit"),
    [(make_job.GARNET, None), ({"id": "Taxi-v4", "count": 20, "max_episode_steps": 30}, 30)],
)
def test_the_table_is_the_references_table_bit_for_bit(environment, limit, rule):
    learning = {"learning_rate": 0.3, "q_init": 0.25, "gamma": 0.95, "rule": rule}
    job = make_job.make(environment, learning=learning, exploration={"epsilon": 0.3})
    count = environment["count"]
    learner = trained(with_replay(job, ratio=3, capacity=7 * count), 120)
    model = learner.environment.model
    expected = reference.learn(
        model,
        environments=count,
        ticks=120,
        seed=3,
        gamma=0.95,
        q_init=0.25,
        limit=limit,
        rate=lambda n, step: 0.3,
        rule=rule,
        parameter=0.3,
        replay=(7, 3),
    )
    hashes = dict(zip(expected, hashes_of(np.array(list(expected), np.uint64)), strict=True))
    found = {key: learner.shard.row(int(hashes[key])).tolist() for key in expected}
    assert len(learner.shard) == len(expected)
    assert found == expected


def test_nothing_is_replayed_before_a_ring_holds_enough():
    job = make_job.make(make_job.GARNET)
    plain = trained(job, 50)
    assert trained(with_replay(job, ratio=2, least=51), 50).digest() == plain.digest()
    assert trained(with_replay(job, ratio=2, least=40), 50).digest() != plain.digest()


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("learning", "n_step", 3, "single transitions are replayed"),
        ("mode", "kind", "asynchronous", "replay goes with lockstep"),
    ],
)
def test_what_does_not_go_with_replay_is_refused(section, key, value, message):
    job = make_job.make(make_job.GARNET).model_dump()
    job["replay"]["ratio"] = 1
    job[section][key] = value
    with pytest.raises(JobError, match=message):
        Job.check(job, "test")


def test_the_rings_count_as_memory():
    job = make_job.make(make_job.GARNET)
    ringed = with_replay(job, ratio=1, capacity=12_000_000)
    before, after = (estimate(j, 1000, 2, 2)["rank_bytes"] for j in (job, ringed))
    # Key, action, reward, next state, terminated: 29 bytes each.
    assert 6_000_000 * 29 <= after - before < 6_100_000 * 29
