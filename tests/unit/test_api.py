"""Training from Python, in one process: a notebook."""

import json
import os
import signal
import subprocess
import sys

import make_job
import pytest
from mpi4py import MPI

import hpcq
from hpcq.errors import JobError, RunDirectoryError
from hpcq.view.inspect import inspect

STEPS = 6_000_000


def job(directory, **run):
    # A second or so: there is time to stop it.
    run = {"steps": STEPS, "directory": str(directory), "report_every": 0.01, **run}
    return make_job.make(make_job.GARNET, run=run)


def test_a_stop_saves_the_run_and_resume_ends_it_the_same(tmp_path):
    whole = inspect(hpcq.train(job(tmp_path / "whole"), MPI.COMM_SELF))
    before = signal.getsignal(signal.SIGINT)
    lines, stopped = [], False
    for _ in hpcq.iter_train(job(tmp_path / "run"), MPI.COMM_SELF, log=lines.append):
        if not stopped:
            signal.raise_signal(signal.SIGINT)
            stopped = True
    assert signal.getsignal(signal.SIGINT) == before
    assert any("stop requested" in line for line in lines)
    part = inspect(tmp_path / "run")
    assert 0 < part["steps"] < STEPS
    done = inspect(hpcq.train(job(tmp_path / "run"), MPI.COMM_SELF, resume=True))
    assert (done["digest"], done["steps"]) == (whole["digest"], STEPS)


def test_two_trainings_of_a_process_do_not_share_a_directory(tmp_path):
    first = hpcq.iter_train(job(tmp_path), MPI.COMM_SELF)
    next(first)
    for again in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(RunDirectoryError, match="another training of this process"):
            hpcq.train(job(tmp_path), MPI.COMM_SELF, **again)
    list(first)
    done = inspect(tmp_path)
    # Closed early, it lets go of the directory.
    second = hpcq.iter_train(job(tmp_path), MPI.COMM_SELF, overwrite=True)
    next(second)
    second.close()
    again = inspect(hpcq.train(job(tmp_path), MPI.COMM_SELF, overwrite=True))
    assert again["digest"] == done["digest"]


def test_reports_are_the_lines_of_the_metrics(tmp_path):
    reports = list(hpcq.iter_train(job(tmp_path), MPI.COMM_SELF))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert reports == lines
    again = list(hpcq.iter_train(job(tmp_path, steps=12_000), MPI.COMM_SELF, overwrite=True))
    assert again[-1]["step"] == 12_000


@pytest.mark.parametrize("id_", ["problems:Heap", "problems:DeclaredHeap"])
def test_two_players_of_a_python_environment_find_out_who_wins(tmp_path, id_):
    job = make_job.make(
        {"id": id_, "count": 8, "reset_every": 50},
        learning={"rule": "negamax", "gamma": 1.0, "learning_rate": 1.0},
        exploration={"epsilon": 1.0},
        run={"steps": 7900, "cut_episodes": False, "directory": str(tmp_path)},
    )
    lines = []
    policy = hpcq.load_policy(hpcq.train(job, MPI.COMM_SELF, log=lines.append))
    assert "8,000 steps (run.steps = 7,900, up to a reset tick)" in "".join(lines)
    # Whoever finds a multiple of four loses; all others leave one.
    for left in range(1, 13):
        assert policy.values(left).max() == (-1.0 if left % 4 == 0 else 1.0)
        if left % 4:
            assert (left - policy(left) - 1) % 4 == 0 or left <= 3


def test_a_job_in_python_names_every_mistake():
    with pytest.raises(JobError) as error:
        hpcq.Job(environment={"id": "Taxi-v4"}, learning={"gama": 1}, run={"steps": "x"})
    lines = str(error.value).splitlines()
    assert "unknown key learning.gama; did you mean 'gamma'?" in lines
    assert any(line.startswith("learning.learning_rate is missing") for line in lines)
    assert any(line.startswith("run.steps = 'x'") for line in lines)
    assert not any(line.startswith(":") for line in lines)


NOTEBOOK = """
import gymnasium
import hpcq

class Coin(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.coin = int(self.np_random.integers(2))
        return self.coin, {}
    def step(self, action):
        return self.coin, float(action == self.coin), True, False, {}

job = hpcq.Job(
    environment={"id": "__main__:Coin", "count": 4, "reset_every": 20},
    learning={"gamma": 0.9, "learning_rate": 0.5},
    run={"steps": 800, "directory": "run"},
)
policy = hpcq.load_policy(hpcq.train(job))
print(policy(0), policy(1), hpcq.evaluate("run", episodes=20)["mean_return"])
"""


def test_an_environment_of_the_notebooks_own(tmp_path):
    # Not what MPI, started in this process, has put beside os.environ.
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path, env=os.environ | {"HPCQ_CACHE_DIR": f"{tmp_path}/cache"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1", "1.0"]
    # The largest kernel was compiled for these environments alone, before they were made.
    assert len(list(tmp_path.glob("cache/**/*.ticks*.nbc"))) == 1
