"""Centred rewards: against exact values, over the life of a run, refused where they mean nothing.

Bit for bit they are tested in unit/test_methods.py, in random jobs in test_any_job.py. 40 s.
"""

import json

import make_job
import numpy as np
import pytest
from mpi4py import MPI
from outcomes import StopAt, outcome, silent

from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode, JobError
from hpcq.learning import exact, modes
from hpcq.run.start_or_resume import resume_run, to_end, train
from hpcq.view.table import Table

pytestmark = pytest.mark.mpi

GARNET = {**make_job.GARNET, "count": 16}
VISITS = {"schedule": "visits", "exponent": 0.77}


def job_of(directory, ticks, environment=GARNET, mode=None, stop=None, run=None, **learning):
    section = {"gamma": 0.99, "learning_rate": VISITS, "centring": True, **learning}
    return make_job.make(
        environment,
        learning=section,
        exploration={"epsilon": 1.0},
        mode=mode,
        stop=stop,
        run={"steps": ticks * 16, "directory": str(directory), **(run or {})},
    )


def ended(comm, job, **options):
    return to_end(train(job, comm, silent, [], **options))


def values(directory):
    """Return all Q-values, by state."""
    with Table(directory) as table:
        return table.find_all(np.arange(50, dtype=np.uint64))[1]


def average_reward(model, sweeps=3000):
    """Return the largest average reward, by relative value iteration (Puterman, section 8.5)."""
    value = np.zeros(model.start.size)
    for _ in range(sweeps):
        new = exact.action_values(model, value, 1.0).max(axis=1)
        gain, value = new[0], new - new[0]
    return gain


def test_values_near_gamma_one_are_learned(comm, folder):
    model = resolve(job_of(folder, 1).environment).model
    truth = exact.value_iteration(model, 0.99, 1e-9)
    scale = np.abs(truth).max()
    for name, centring in (("centred", True), ("plain", 0.0)):
        assert ended(comm, job_of(folder / name, 20_000, centring=centring)) == ExitCode.DONE
    assert np.abs(values(folder / "centred") - truth).max() < 0.02 * scale
    assert np.abs(values(folder / "plain") - truth).max() > 0.3 * scale


def test_the_average_reward_is_learned(comm, folder):
    assert ended(comm, job_of(folder / "run", 20_000, gamma=1.0)) == ExitCode.DONE
    summary = json.loads((folder / "run" / "summary.json").read_text())
    truth = average_reward(resolve(job_of(folder, 1).environment).model)
    assert summary["reward_rate"] == pytest.approx(truth, rel=0.02)


def test_a_stopped_run_ends_as_the_uninterrupted_one(comm, folder):
    limited = {**GARNET, "max_episode_steps": 30}
    assert ended(comm, job_of(folder / "one", 400, limited)) == ExitCode.DONE
    assert ended(MPI.COMM_SELF, job_of(folder / f"alone{comm.rank}", 400, limited)) in ExitCode
    stopping = job_of(folder / "two", 400, limited, run={"report_every": 1e-9})
    assert to_end(train(stopping, comm, silent, StopAt(13))) in ExitCode
    assert to_end(resume_run(folder / "two", (), comm, silent, [])) == ExitCode.DONE
    found = outcome(folder / "one")
    assert outcome(folder / "two") == found == outcome(folder / f"alone{comm.rank}")


def test_another_run_begins_with_the_values(comm, folder):
    """Whether it centres its own rewards or not; at a rate of 0 they stay what they are."""
    assert ended(comm, job_of(folder / "run", 300)) == ExitCode.DONE
    for name, centring in (("centred", True), ("plain", 0.0)):
        more = job_of(
            folder / name,
            1,
            centring=centring,
            learning_rate=0.0,
            run={"start_from": str(folder / "run")},
        )
        assert ended(comm, more) == ExitCode.DONE
        assert (values(folder / name) == values(folder / "run")).all()


def test_a_run_ends_by_the_residual_of_centred_values(comm, folder):
    steps = {"bellman_residual": 0.5, "every": 16_000}
    job = job_of(folder / "run", 100_000, stop=steps)
    assert ended(comm, job) == ExitCode.DONE
    model = resolve(job.environment).model
    q = values(folder / "run")
    residual = np.abs(q - exact.action_values(model, q.max(axis=1), 0.99)).max()
    assert "stop.bellman_residual" in outcome(folder / "run")[0]["ended_by"]
    assert residual <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("mode", "environment", "learning"),
    [
        ({"kind": "periodic"}, GARNET, {"learning_rate": 0.1}),
        ({"kind": "asynchronous"}, GARNET, {}),
        ({}, {"id": "hpcq/TicTacToe-v0"}, {"rule": "negamax"}),
    ],
)
def test_what_has_no_mean_is_refused(mode, environment, learning, comm, folder):
    job = job_of(folder, 1, environment, mode=mode, **learning)
    with pytest.raises(JobError, match=r"learning.centring"):
        modes.make_learner(job, resolve(job.environment), comm)


def test_an_episode_that_ends_is_refused(comm, folder):
    """A group of one has a learner of its own: no rank waits for another that has seen the end."""
    job = job_of(folder, 1, {"id": "Taxi-v4", "count": 512, "max_episode_steps": 500})
    learner = modes.make_learner(job, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    with pytest.raises(JobError, match=r"Taxi-v4 has ended \(terminated\)"):
        advance_to(learner, 4000)
    learner.close()


def advance_to(learner, last):
    while learner.tick < last:
        learner.advance(last=last)
