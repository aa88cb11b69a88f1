"""What the rules of [stop] measure, against numbers worked out by hand and exact solutions."""

import json
import re

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode, JobError
from hpcq.hashing import mix64
from hpcq.learning import exact
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.progress import Progress
from hpcq.run.start_or_resume import resume_run, to_end, train
from hpcq.run.stopping import Stopping, bellman_residual

LAKE = {"id": "FrozenLake-v1", "count": 20}


def begin(job):
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    return learner


def test_the_largest_td_error_is_that_of_the_window():
    # Every step is an episode that ends with 8; the rate is 1/2: errors 8, 4, 2, ...
    job = make_job.make(
        {"id": "problems:Scripted-v0", "kwargs": {"script": [[1, 8.0, True, False]]}, "count": 1},
        stop={"td_error": 1.0},
    )
    learner = begin(job)
    for _ in range(3):  # the first update is applied in the second tick
        learner.advance()
    assert learner.owner.largest_error(reset=True) == 8.0
    learner.advance()
    learner.advance()
    assert learner.owner.largest_error() == 2.0
    learner.close()


def test_the_td_error_is_not_looked_at_unless_asked_for():
    learner = begin(make_job.make(LAKE))
    for _ in range(50):
        learner.advance()
    assert learner.owner.largest_error() == 0.0


def test_the_residual_of_the_optimum_is_nothing_and_that_of_a_change_is_its_size():
    job = make_job.make(LAKE, learning={"gamma": 0.9, "q_init": 0.5})
    learner = begin(job)
    model = learner.environment.model
    assert bellman_residual(learner, model) == 0.0  # no row yet
    best = exact.value_iteration(model, 0.9)
    hashes = mix64.py_func(np.arange(16, dtype=np.uint64))
    order = np.argsort(hashes)
    learner.shard.load(hashes[order], best[order], np.zeros((16, 0), np.uint32))
    assert bellman_residual(learner, model) < 1e-12
    row = learner.shard.row(int(hashes[6]))
    worst = int(row.argmin())
    table = learner.shard.table
    slot = int(np.flatnonzero(table.hashes["hash"] == hashes[6])[0])
    table.q[slot, worst] -= 0.25  # not the best action: no other state's target changes
    assert bellman_residual(learner, model) == pytest.approx(0.25, abs=1e-12)


def test_the_residual_needs_a_model():
    for environment, rule in (
        (make_job.CORRIDOR, "q_learning"),
        (LAKE, "sarsa"),
        ({"id": "Taxi-v4", "count": 2, "action_mask": True}, "q_learning"),
    ):
        job = make_job.make(environment, learning={"rule": rule}, stop={"bellman_residual": 0.1})
        with pytest.raises(JobError, match=re.escape("stop.bellman_residual is given, but")):
            Stopping(begin(job))


@pytest.mark.parametrize("key", ["patience", "evaluation_return"])
def test_rules_of_evaluations_need_them(key):
    with pytest.raises(JobError, match=f"stop.{key} needs evaluations: give evaluation.every"):
        make_job.make(LAKE, stop={key: 1})


def test_the_first_of_equal_evaluations_is_the_best():
    progress = Progress()
    assert [progress.note(value, step) for step, value in enumerate([1.0, 2.0, 2.0, 0.0])] == [
        True, True, False, False,
    ]  # fmt: skip
    assert (progress.best_return, progress.best_step, progress.since_best) == (2.0, 1, 2)
    assert Progress.from_dict(json.loads(json.dumps(progress.as_dict()))) == progress
    for wrong in ({"best": 1.0}, {"best_return": "x"}):
        with pytest.raises(ValueError, match="not part of a run's progress"):
            Progress.from_dict(wrong)


def test_time_ends_a_run_like_its_last_step(tmp_path):
    job = make_job.make(
        {"id": "Taxi-v4", "count": 4},
        run={"steps": 1 << 50, "directory": str(tmp_path)},
        stop={"minutes": 0.005},
    )
    assert to_end(train(job, MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["ended_by"] == "stop.minutes = 0.005"
    # Time is over for the resumed run, too: it ends at once, at the same step.
    assert to_end(resume_run(tmp_path, (), MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] >= found["steps"]
    training = resume_run(tmp_path, ("stop.minutes=0.008",), MPI.COMM_SELF, lambda text: None, [])
    assert to_end(training) == ExitCode.DONE
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] > found["steps"]
