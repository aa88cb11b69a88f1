"""The folder in which a command is started, and the run directory, which both may change."""

import json
import os
import shutil

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for

from hpcq.run.run_directory import list_checkpoints

# A walk on a line; each step is taken in another working folder.
WANDERER = """
import os
import tempfile

import gymnasium


class Wanderer(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(5)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(4))
        return self.at, {}

    def step(self, action):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
        self.at = max(self.at + 2 * int(action) - 1, 0)
        return self.at, float(self.at == 4), self.at == 4, False, {}
"""
ENVIRONMENT = {"count": 4, "reset_every": 10, "max_episode_steps": 20}


@pytest.fixture(params=[None, 2], ids=["one process", "two ranks"])
def ranks(request):
    return [] if request.param is None else ["-n", str(request.param)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Start in a folder of one's own, without what the tests set for mpirun."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")) and not name.endswith("_session_dir"):
            monkeypatch.delenv(name)


def test_nothing_is_imported_from_there_but_the_environment(tmp_path, ranks):
    for name in ("random", "json", "numpy", "copy", "click", "typing", "mpi4py", "hpcq"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder')")
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the folder {name}')")
    (tmp_path / "mine.py").write_text(WANDERER)
    job = make_job.make({"id": "mine:Wanderer", **ENVIRONMENT}, run={"steps": 80})
    make_job.write(tmp_path / "job.toml", job)
    hpcq(None, "run", *ranks, "job.toml", "--set=run.directory=run")
    assert summary("run")["steps"] == 80
    hpcq(None, "resume", *ranks, "run", "--set=run.steps=160")
    hpcq(None, "doctor", "run")


def test_a_module_that_is_nowhere(tmp_path):
    job = make_job.make({"id": "nowhere:Mine"})
    done = hpcq(None, "run", make_job.write(tmp_path / "job.toml", job), code=64)
    assert "no module named 'nowhere'" in done.stderr


def test_an_environment_that_leaves_it(tmp_path, ranks):
    (tmp_path / "mine.py").write_text(WANDERER)
    job = make_job.make(
        {"id": "mine.py:Wanderer", **ENVIRONMENT},
        evaluation={"every": 80, "episodes": 4},
        checkpoint={"every": 80},
        run={"steps": 400, "report_every": 0.01},
    )
    make_job.write(tmp_path / "job.toml", job)
    hpcq(None, "run", *ranks, "job.toml", "--set=run.directory=run")
    assert {"best.h5", "job.json", "metrics.jsonl"} <= {
        file.name for file in tmp_path.glob("run/*")
    }
    hpcq(None, "resume", *ranks, "run", "--set=run.steps=800")
    assert summary("run")["steps"] == 800
    assert summary("run")["checkpoint"] == "run/ckpt-000000000000800.h5"
    again = "--set=run.directory=again", "--set=run.start_from=run"
    hpcq(None, "run", *ranks, "job.toml", *again)
    assert [path.name for path in tmp_path.glob("again/ckpt-*400.h5")]


def test_a_first_job_for_an_environment_that_leaves_it(tmp_path):
    (tmp_path / "mine.py").write_text(WANDERER)
    hpcq(None, "init", "mine.py:Wanderer", "--set", "environment.max_episode_steps=20")
    assert (tmp_path / "mine.toml").exists()


@pytest.mark.parametrize("left", ["moved", "removed"])
def test_a_second_run_where_the_first_one_was(tmp_path, left):
    """The first one ends; neither writes into the other's."""
    job = make_job.make({"id": "Taxi-v4", "count": 64}, run={"steps": 10**12, "report_every": 0.5})
    make_job.write(tmp_path / "job.toml", job)
    place, often = tmp_path / "run", "--set=checkpoint.every=200_000"
    first = start(None, "run", "-n", "2", "job.toml", "--set=run.directory=run", often)
    try:
        wait_for(lambda: place.exists() and list_checkpoints(place))
        place.rename(tmp_path / "moved")
        place.mkdir()
        if left == "removed":
            shutil.rmtree(tmp_path / "moved")
        hpcq(None, "run", "job.toml", "--set=run.directory=run", "--set=run.steps=64")
        output, _ = first.communicate(timeout=60)
    finally:
        end(first)
    assert first.returncode == 73, output
    assert "no longer the directory in which this run began" in output
    assert [path.name for path in list_checkpoints(place)] == ["ckpt-000000000000064.h5"]
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [64]
    if left == "moved":
        newest = list_checkpoints(tmp_path / "moved")[0]
        hpcq(None, "verify", newest)
