import make_job
import numpy as np
import pytest
import reference
import rules
from mpi4py import MPI

from hpcq.bench.modes import gathered
from hpcq.checkpoint.saving import save
from hpcq.checkpoint.verification import verify
from hpcq.envs import tabular
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, JobError
from hpcq.hashing import hashes_of
from hpcq.job.job import Job
from hpcq.job.sections import ReplaySection
from hpcq.learning import exact
from hpcq.learning.evaluation import Evaluator
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.estimate import estimate


def with_replay(job, **keys):
    return job.model_copy(update={"replay": ReplaySection(**keys)})


def begun(job, ticks, environment=None):
    learner = LockstepLearner(job, environment or resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    return learner


def trained(job, ticks):
    learner = begun(job, ticks)
    learner.close()
    return learner


PRIORITISED = [
    {},
    {"priority_exponent": 0.7, "priority_floor": 0.02, "importance_exponent": 0.5},
    {
        "priority_exponent": 1.0,
        "importance_exponent": {"schedule": "linear", "start": 1.0, "end": 0.2, "steps": 1500},
    },
]


@pytest.mark.parametrize("draw", [None, *PRIORITISED])
@pytest.mark.parametrize("rule", rules.ALONE)
@pytest.mark.parametrize(
    ("environment", "limit"),
    [(make_job.GARNET, None), ({"id": "Taxi-v4", "count": 20, "max_episode_steps": 30}, 30)],
)
def test_the_table_is_the_references_table_bit_for_bit(environment, limit, rule, draw):
    # What terminates has no mean reward.
    centring = 0.5 if limit is None and draw else 0.0
    learning = rules.learning(rule, learning_rate=0.3, q_init=0.25, gamma=0.95, centring=centring)
    job = make_job.make(environment, learning=learning, exploration={"epsilon": 0.3})
    count = environment["count"]
    keys = {} if draw is None else {"sampling": "prioritised", **draw}
    job = with_replay(job, ratio=3, capacity=7 * count, **keys)
    learner = trained(job, 120)
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
        **rules.traits(job),
        parameter=0.3,
        replay=(7, 3),
        priority=None
        if draw is None
        else (job.replay.priority_exponent, job.replay.priority_floor),
        importance=job.replay.importance_exponent.at,
        centring=centring,
    )
    hashes = dict(zip(expected, hashes_of(np.array(list(expected), np.uint64)), strict=True))
    found = {key: learner.shard.row(int(hashes[key])).tolist() for key in expected}
    assert len(learner.shard) == len(expected)
    assert found == expected


def test_nothing_is_replayed_before_a_ring_holds_enough():
    job = make_job.make(make_job.GARNET)
    plain = trained(job, 50)
    assert trained(with_replay(job, ratio=2, learning_starts=51), 50).digest() == plain.digest()
    assert trained(with_replay(job, ratio=2, learning_starts=40), 50).digest() != plain.digest()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("learning", {"n_step": 3}, "single transitions are replayed"),
        ("mode", {"kind": "asynchronous"}, "replay goes with lockstep"),
        ("replay", {"priority_exponent": 0.5}, "sampling = 'uniform' has no priority_exponent"),
        ("replay", {"priority_floor": 0.5}, "sampling = 'uniform' has no priority_floor"),
        ("replay", {"importance_exponent": 1.0}, "sampling = 'uniform' has no importance_exponent"),
        ("replay", {"sampling": "prioritised", "ratio": 0}, "draws nothing: give ratio, too"),
        ("replay", {"sampling": "prioritized"}, "expected 'uniform' or 'prioritised'"),
        (
            "replay",
            {"sampling": "prioritised", "priority_floor": -1.0},
            "replay.priority_floor = -1",
        ),
        (
            "replay",
            {"sampling": "prioritised", "importance_exponent": 1.5},
            "replay.importance_exponent = 1.5: expected a number",
        ),
        (
            "replay",
            {"sampling": "prioritised", "capacity": 24},
            "capacity = 24 and environment.count = 12.* expected at least 36",
        ),
    ],
)
def test_what_does_not_go_with_replay_is_refused(section, change, message):
    job = make_job.make(make_job.GARNET).model_dump()
    job["replay"]["ratio"] = 1
    job[section] |= change
    with pytest.raises(JobError, match=message):
        Job.check(job, "test")


def test_the_rings_count_as_memory():
    job = make_job.make(make_job.GARNET)
    ringed = with_replay(job, ratio=1, capacity=12_000_000)
    before, after = (estimate(j, 1000, 2, 2)["rank_bytes"] for j in (job, ringed))
    # Key, action, reward, next state, terminated: 29 bytes each.
    assert 6_000_000 * 29 <= after - before < 6_100_000 * 29
    ringed = with_replay(job, ratio=1, capacity=12 << 20, sampling="prioritised")
    after = estimate(ringed, 1000, 2, 2)["rank_bytes"]
    # Beside these the priority, and a sum of the tree: 12 bytes.
    assert (6 << 20) * 41 <= after - before < (6.1 * 2**20) * 41


@pytest.mark.parametrize("keys", [{}, {"sampling": "prioritised"}])
def test_an_evaluation_replays_nothing(keys):
    job = make_job.make(make_job.GARNET, evaluation={"every": 1, "episodes": 20, "max_steps": 9})
    learner = trained(with_replay(job, ratio=2, **keys), 50)
    before = learner.digest()
    section = learner.job.evaluation
    evaluator = Evaluator(
        learner.algorithm, learner.environment, section, learner.shard, learner.comm
    )
    evaluator.evaluate()
    evaluator.close()
    assert learner.digest() == before


def blind_cliffwalk(n):
    """The way right is another action in every second state; the other one ends the episode.

    Schaul and others, "Prioritized experience replay", ICLR 2016, section 3.1.
    """
    transitions = {}
    for s in range(n):
        last = s == n - 1
        ways = [(1.0, (s + 1) % n, float(last), last)], [(1.0, 0, 0.0, True)]
        transitions[s] = dict(enumerate(ways if s % 2 else ways[::-1]))
    return tabular.from_transitions(transitions, np.eye(n)[0])


def replayed_until_right(seed, **keys):
    """Return how many transitions are replayed from the first reward to the paper's criterion."""
    n, model = 8, blind_cliffwalk(8)
    truth = exact.value_iteration(model, 1 - 1 / n)
    job = make_job.make(
        {"id": "cliffwalk", "count": 1},
        learning={"gamma": 1 - 1 / n, "learning_rate": 0.25},
        exploration={"policy": "uniform"},
        run={"seed": seed},
    )
    job = with_replay(job, ratio=1, **keys)
    learner = begun(job, 0, tabular.table_environment("cliffwalk", model, None))
    while not learner.collector.batch.reward[0]:
        learner.advance()
    first, error = learner.tick, np.inf
    while error > 1e-3:
        for _ in range(20):
            learner.advance()
        error = np.mean((gathered(learner, n) - truth) ** 2)
    return learner.tick - first


def test_priorities_find_the_few_transitions_that_teach_something():
    uniform, prioritised, boldly = (
        sum(replayed_until_right(seed, **keys) for seed in (1, 2, 3))
        for keys in (
            {},
            {"sampling": "prioritised"},
            {"sampling": "prioritised", "importance_exponent": 0.0},
        )
    )
    assert prioritised <= uniform / 3
    assert boldly <= prioritised / 2


def test_numbers_that_cannot_be_are_found_in_a_checkpoint(tmp_path):
    job = with_replay(make_job.make(make_job.GARNET), ratio=2, sampling="prioritised")
    learner = begun(job, 9)
    path, _ = save(learner, tmp_path, "gather", keep=1)
    verify(path)
    arrays = {field.dataset: array for field, array in learner.saved_arrays()}
    arrays["replay/pending_number"][3, 1] = -1
    path, _ = save(learner, tmp_path, "gather", keep=1)
    with pytest.raises(CheckpointError, match="replay/pending_number has a value outside 0 "):
        verify(path)
    learner.close()


def test_a_job_that_draws_otherwise_does_not_go_on_with_a_run():
    job = make_job.make(make_job.GARNET)
    uniform, prioritised = (
        with_replay(job, ratio=1, sampling=kind) for kind in ("uniform", "prioritised")
    )
    assert list(prioritised.differences(uniform)) == ["replay.sampling"]
