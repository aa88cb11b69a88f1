import math

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.owner_kernels import MAX_VISITS
from hpcq.learning.periodic_kernels import COLUMNS, HASH, NEW, countable, merge
from hpcq.run.estimate import estimate, estimate_text
from hpcq.table.shard import Shard

HALF = math.log(2.0)
"""-log(1 - eta) for eta = 1/2"""


def merged(shard, records, ranks, importance):
    """Merge records (hash, met since the last merge, updates, values)."""
    words = np.zeros((len(records), COLUMNS + 2 * shard.columns), np.uint64)
    values = words.view(np.float64)
    for i, (hash_, new, updates, q) in enumerate(records):
        words[i, :2] = hash_, new
        words[i, COLUMNS : COLUMNS + shard.columns] = updates
        values[i, COLUMNS + shard.columns :] = q
    order = np.argsort(words[:, 0], kind="stable")
    done = merge(shard.table, words, values, order, 0, ranks, HALF, importance)
    assert done == len(records)


def shard_with(q_init=0.0, **rows):
    shard = Shard(1, 2, np.dtype(np.float64), q_init)
    for hash_, q in rows.items():
        shard.load(np.array([int(hash_[1:])], np.uint64), np.array([q]), np.zeros((1, 0), "u4"))
    return shard


def test_weights_worked_by_hand():
    # eta = 1/2: one update weighs 2, three weigh 8, a rank without any weighs 1 with the old value.
    shard = shard_with(h7=[1.0, 5.0])
    records = [(7, 0, [1, 0], [2.0, 5.0]), (7, 0, [3, 0], [4.0, 5.0])]
    merged(shard, records, 3, importance=True)
    assert shard.row(7) == pytest.approx([(2 * 2 + 8 * 4 + 1 * 1) / 11, 5.0], rel=1e-15)


def test_equal_weights_worked_by_hand():
    shard = shard_with(h7=[1.0, 5.0])
    records = [(7, 0, [1, 0], [2.0, 5.0]), (7, 0, [3, 0], [4.0, 5.0])]
    merged(shard, records, 3, importance=False)
    assert shard.row(7) == pytest.approx([(2 + 4 + 1) / 3, 5.0], rel=1e-15)


def test_what_all_ranks_agree_on_stays_to_the_last_bit():
    for value in (0.1, 1 / 3, 0.7, 5.3):
        for importance in (True, False):
            shard = shard_with(h7=[value, 0.0])
            merged(shard, [(7, 0, [n, 0], [value, 0.0]) for n in (5, 3, 1)], 8, importance)
            assert shard.row(7).tolist() == [value, 0.0]


def test_what_was_made_of_q_init_counts_as_made_of_the_owners_value():
    # From q_init = 8 two updates at rate 1/2 towards 0 give 2; from the owner's 4 they give 1.
    for importance in (True, False):
        shard = shard_with(8.0, h7=[4.0, 8.0])
        merged(shard, [(7, 1, [2, 0], [2.0, 8.0])], 1, importance)
        assert shard.row(7) == pytest.approx([1.0, 8.0], rel=1e-15)


def test_so_many_updates_that_the_weights_overflow():
    shard = shard_with(h7=[1.0, 1.0])
    records = [(7, 0, [100_000, 1], [3.0, 3.0]), (7, 0, [100_000, 100_000], [5.0, 5.0])]
    merged(shard, records, 2, importance=True)
    assert shard.row(7).tolist() == [4.0, 5.0]


def test_rows_that_nobody_updated_are_not_made():
    shard = shard_with()
    merged(shard, [(7, 1, [0, 0], [0.0, 0.0]), (9, 1, [0, 1], [0.0, 6.0])], 1, importance=True)
    assert len(shard) == 1
    assert shard.row(9).tolist() == [0.0, 6.0]


def test_masks_and_visit_counts_of_all_ranks_come_together():
    shard = Shard(1, 1, np.dtype(np.float64), visits=True, masks=1)
    before = np.array([[MAX_VISITS - 9]], np.uint32)
    shard.load(np.array([9], np.uint64), np.zeros((1, 1)), before)
    # The second rank has only met state 9: it does not know what is legal there.
    records = [(7, 1, 3, 0b101), (9, 0, 20, 0b11), (7, 1, 4, 0b101), (9, 0, 0, 0)]
    words = np.zeros((4, 5), np.uint64)
    words[:, [HASH, NEW, COLUMNS, 4]] = records
    order = np.argsort(words[:, HASH], kind="stable")
    merge(shard.table, words, words.view(np.float64), order, 0, 2, HALF, True)
    ((hashes, _, visits, masks),) = shard.pieces_with_masks(2)
    assert hashes.tolist() == [7, 9]
    assert visits.tolist() == [[7], [MAX_VISITS]]
    assert masks.tolist() == [[0b101], [0b11]]
    # What saturates still leaves the copies room to count.
    assert countable(np.array([7, MAX_VISITS])).tolist() == [7, MAX_VISITS // 2]


CORNERS = {
    "epsilon-greedy": make_job.make(
        {**make_job.GARNET, "max_episode_steps": 7},
        learning={"gamma": 0.95, "q_init": 0.25, "learning_rate": 0.3},
    ),
    "visit counts": make_job.make(
        make_job.GARNET,
        learning={"rule": "double_q", "n_step": 3},
        exploration={"policy": "ucb", "confidence": 0.7},
    ),
    "masks": make_job.make(
        {"id": "hpcq/TicTacToe-v0", "kwargs": {"opponent": "random"}, "action_mask": True},
    ),
}


def contents(learner):
    return [
        [array.tolist() for array in piece] for piece in learner.shard.pieces_with_masks(10_000)
    ]


@pytest.mark.parametrize("averaging", ["importance", "equal"])
@pytest.mark.parametrize("every", [1, 8])
@pytest.mark.parametrize("case", CORNERS)
def test_one_rank_by_itself_learns_as_in_lockstep(case, averaging, every):
    job = CORNERS[case]
    mode = {"kind": "periodic", "merge_every": every, "averaging": averaging}
    periodic = job.model_copy(update={"mode": type(job.mode)(**mode)})
    environment = resolve(job.environment)
    learners = [
        LockstepLearner(job, environment, MPI.COMM_SELF, by_phase),
        modes.make_learner(periodic, environment, MPI.COMM_SELF),
    ]
    for learner in learners:
        learner.begin()
        for _ in range(320):
            learner.advance()
    assert contents(learners[0]) == contents(learners[1])
    assert learners[0].digest() == learners[1].digest()


def test_the_estimate_counts_copies_of_every_state():
    job = CORNERS["visit counts"]
    alone = estimate(job, 100_000, 4, 4)
    periodic = job.model_copy(update={"mode": type(job.mode)(kind="periodic")})
    found = estimate(periodic, 100_000, 4, 4)
    # A copy is 2 x 3 values and as many counts, a hash; load factors and merging come on top.
    assert found["rank_bytes"] - alone["rank_bytes"] == found["copies_bytes"]
    assert found["copies_bytes"] > 100_000 * (8 + 6 * 12)
    assert "for copies, once every state was visited" in estimate_text(found)
    assert "copies" not in estimate_text(alone)


def test_a_learning_rate_by_visits_is_refused():
    job = make_job.make(make_job.GARNET).model_dump()
    job["mode"]["kind"] = "periodic"
    job["learning"]["learning_rate"] = {"schedule": "visits", "exponent": 0.7}
    with pytest.raises(JobError, match="test: mode.kind = 'periodic' merges by .* not depend on"):
        Job.check(job, "test")
