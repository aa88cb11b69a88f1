"""Evaluation against the exact value of the greedy policy; what it must not change; best.h5."""

import json

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode
from hpcq.hashing import mix64
from hpcq.learning import exact
from hpcq.learning.evaluation import Evaluator
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.run_directory import list_checkpoints
from hpcq.run.start_or_resume import to_end, train

LAKE = {"id": "FrozenLake-v1", "count": 20}


def trained(job, ticks):
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    return learner


def evaluator_of(learner):
    section = learner.job.evaluation
    return Evaluator(learner.algorithm, learner.environment, section, learner.shard, learner.comm)


def evaluate(learner):
    evaluator = evaluator_of(learner)
    found = evaluator.evaluate()
    evaluator.close()
    return found


def dense(learner):
    states = np.arange(learner.environment.model.start.size, dtype=np.uint64)
    return np.array([learner.shard.row(int(hash_)) for hash_ in mix64.py_func(states)])


def test_without_chance_it_is_the_exact_return():
    job = make_job.make(
        {"id": "CliffWalking-v1", "count": 20},
        learning={"gamma": 1.0},
        evaluation={"every": 1, "episodes": 7},
    )
    found = evaluate(trained(job, 4000))
    # Sutton and Barto, example 6.6: the optimal path along the edge has 13 steps.
    assert found == (-13.0, 0.0, 13.0, {})


@pytest.mark.parametrize("ticks", [3, 300])
def test_with_chance_it_is_the_exact_return_within_its_error(ticks):
    """After 3 ticks most rows are absent or have ties: the policy is partly uniform."""
    job = make_job.make(LAKE, evaluation={"every": 1, "episodes": 20_000})
    learner = trained(job, ticks)
    found = evaluate(learner)
    model = learner.environment.model
    expected = exact.expected_return(model, exact.greedy(dense(learner)), 100)
    assert found.mean_return == pytest.approx(expected, abs=3.5 * found.standard_error)
    assert found.standard_error < 0.004
    # Returns are 0 or 1: the error of a mean p is sqrt(p (1 - p) / (n - 1)).
    p = found.mean_return
    assert found.standard_error == pytest.approx(np.sqrt(p * (1 - p) / 19_999), rel=1e-9)


@pytest.mark.parametrize(
    ("environment", "learning", "exploration"),
    [
        (LAKE, {}, {}),
        (LAKE, {"rule": "double_q", "n_step": 3}, {}),
        (LAKE, {"rule": "sarsa", "n_step": 4, "trace_decay": 0.8}, {}),
        (LAKE, {}, {"policy": "ucb", "confidence": 1.0}),
        ({"id": "Taxi-v4", "count": 9, "action_mask": True}, {}, {"policy": "uniform"}),
        (make_job.CORRIDOR, {}, {}),
        (make_job.VECTOR, {}, {}),
    ],
)
def test_it_changes_nothing_and_repeats_itself(environment, learning, exploration):
    job = make_job.make(
        environment,
        learning=learning,
        exploration=exploration,
        evaluation={"every": 1, "episodes": 4, "max_steps": 30},
    )
    learner = trained(job, 60)
    rows, digest = len(learner.shard), learner.digest()
    before = {field.dataset: array.copy() for field, array in learner.saved_arrays()}
    evaluator = evaluator_of(learner)
    first = evaluator.evaluate()
    assert evaluator.evaluate() == first
    assert evaluate(learner) == first
    evaluator.close()
    assert (len(learner.shard), learner.digest()) == (rows, digest)
    for field, array in learner.saved_arrays():
        assert np.array_equal(array, before[field.dataset])


def test_episodes_end_after_max_steps():
    job = make_job.make(LAKE, evaluation={"every": 1, "episodes": 50, "max_steps": 3})
    found = evaluate(trained(job, 0))
    # Nothing ends on the first step of FrozenLake's corner; by the third something may.
    assert 2 <= found.mean_length <= 3
    assert found.mean_return == 0.0


def test_in_self_play_the_return_is_that_of_who_begins():
    # One heap of 3, up to 3 at a time, taking the last one wins: who begins takes all.
    job = make_job.make(
        {"id": "hpcq/Nim-v0", "kwargs": {"heaps": [3]}, "count": 5},
        learning={"rule": "negamax", "gamma": 1.0},
        evaluation={"every": 1, "episodes": 3},
    )
    assert evaluate(trained(job, 300))[0] == 1.0


def run(directory, *, evaluation=None, stop=None, checkpoint=None, steps=40_000):
    job = make_job.make(
        LAKE,
        learning={"gamma": 0.99, "learning_rate": 0.1},
        run={"steps": steps, "directory": str(directory)},
        evaluation=evaluation,
        stop=stop,
        checkpoint=checkpoint,
    )
    assert to_end(train(job, MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    return json.loads((directory / "summary.json").read_text())


def test_a_run_with_evaluations_learns_the_same_and_keeps_the_best(tmp_path):
    plain = run(tmp_path / "plain")
    assert not (tmp_path / "plain" / "best.h5").exists()
    directory = tmp_path / "evaluated"
    found = run(directory, evaluation={"every": 1999}, checkpoint={"keep": 1})
    assert found["digest"] == plain["digest"]
    assert len(list_checkpoints(directory)) == 1
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    returns = {
        line["step"]: line["evaluation_return"]
        for line in lines
        if line["evaluation_return"] is not None
    }
    # 1999 steps are 100 ticks of 20.
    assert list(returns) == list(range(2000, 40_001, 2000))
    assert found["best_return"] == max(returns.values())
    best = min(step for step, value in returns.items() if value == found["best_return"])
    assert found["best_step"] == lines[-1]["best_step"] == best < 40_000
    header, _ = verify(directory / "best.h5")
    assert header.step == best
    assert header.progress["best_return"] == found["best_return"]
    assert not (directory / f"ckpt-{best:015d}.h5").exists()


def test_the_best_need_not_be_kept(tmp_path):
    run(tmp_path, evaluation={"every": 2000, "keep_best": False}, steps=4000)
    assert not (tmp_path / "best.h5").exists()


def test_the_best_is_kept_where_the_disk_knows_no_links(tmp_path, monkeypatch):
    def link(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", link)
    found = run(tmp_path, evaluation={"every": 2000}, checkpoint={"keep": 1})
    assert read_header(tmp_path / "best.h5").step == found["best_step"]
    assert verify(tmp_path / "best.h5")
