"""Environments with children, threads and habits of their own."""

import json
import os
import re
from pathlib import Path

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for

from hpcq.run.run_directory import list_checkpoints

ALONE, TWO = [], ["-n", "2"]
either = pytest.mark.parametrize("ranks", [ALONE, TWO], ids=["one process", "two ranks"])


@pytest.fixture(autouse=True)
def _plain_shell(monkeypatch):
    """Without what the tests set for mpirun."""
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")) and not name.endswith("_session_dir"):
            monkeypatch.delenv(name)


def job_of(tmp_path, how, **kwargs):
    environment = {"id": "guests:Guest", "kwargs": {"how": how, **kwargs}, "count": 4}
    job = make_job.make({**environment, "reset_every": 10, "max_episode_steps": 20})
    return make_job.write(tmp_path / "job.toml", job)


def run(tmp_path, ranks, how, code=0, **kwargs):
    """Run to the end of the output, which whatever holds the pipe would delay."""
    job = job_of(tmp_path, how, **kwargs)
    directory = f"--set=run.directory={tmp_path}/run"
    return hpcq(None, "run", *ranks, job, directory, "--set=run.steps=800", code=code)


def sleeping():
    """Return the processes that environments have left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if b"time.sleep(600)" in text and b"multiprocessing" not in text:
            found.append(text)
    return found


@either
@pytest.mark.parametrize("how", ["child", "deaf"])
def test_a_child_that_outlives_the_run(tmp_path, ranks, how):
    done = run(tmp_path, ranks, how)
    assert summary(tmp_path / "run")["steps"] == 800
    assert re.search(r"left processes behind, ended: python\S* \(process \d+\)", done.stderr)
    assert sleeping() == []


def test_a_daemon_that_outlives_the_run(tmp_path):
    done = run(tmp_path, TWO, "daemon")
    assert "a rank left processes behind, ended: python" in done.stderr
    assert sleeping() == []


def test_a_child_of_a_rank_that_died(tmp_path):
    done = run(tmp_path, TWO, "die", code=137, only=1)
    assert "ended by signal 9" in done.stderr
    assert sleeping() == []


@either
def test_a_child_of_an_environment_that_failed(tmp_path, ranks):
    done = run(tmp_path, ranks, "fail", code=70, only=None if ranks == ALONE else 1)
    assert "the user's bug" in done.stderr
    assert sleeping() == []


@either
def test_a_thread_that_never_ends(tmp_path, ranks):
    done = run(tmp_path, ranks, "thread")
    assert "threads behind that do not end: simulator" in done.stderr
    assert summary(tmp_path / "run")["steps"] == 800


def test_what_is_to_be_done_at_exit_is_done_at_a_stop(tmp_path, monkeypatch):
    """mpirun ends the ranks once one of them has left with a code."""
    monkeypatch.chdir(tmp_path)
    job, directory = job_of(tmp_path, "at_exit"), f"--set=run.directory={tmp_path}/run"
    running = start(None, "run", *TWO, job, directory, "--set=run.steps=1000000000")
    try:
        wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        running.terminate()
        said, _ = running.communicate(timeout=200)
    finally:
        end(running)
    assert running.returncode == 75, said
    assert len(list(tmp_path.glob("left-*"))) == 2, said


@either
def test_an_environment_that_stops_the_clocks(tmp_path, ranks):
    run(tmp_path, ranks, "stop_clocks")
    assert summary(tmp_path / "run")["steps"] == 800


@either
def test_an_environment_that_limits_the_size_of_files(tmp_path, ranks):
    """What HDF5 cannot close must not crash the process at its end."""
    done = run(tmp_path, ranks, "limit_files", code=74)
    assert "File too large" in done.stderr
    assert list_checkpoints(tmp_path / "run") == []


def test_forked_children_end_at_sigterm(tmp_path):
    done = run(tmp_path, ALONE, "pool")
    assert done.stderr == ""


@pytest.mark.parametrize(("ranks", "only"), [(ALONE, None), (TWO, 1)], ids=["one", "two"])
def test_an_environment_that_calls_os_exit(tmp_path, ranks, only):
    done = run(tmp_path, ranks, "leave", code=70, only=only)
    assert f"rank {only or 0}: the environment ended the process by os._exit(0)" in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()


@either
@pytest.mark.parametrize("how", ["fork", "fork_and_fail", "fork_and_exit"])
def test_a_forked_copy_ends_and_the_run_goes_on(tmp_path, ranks, how):
    whole = tmp_path / "whole"
    whole.mkdir()
    run(whole, ALONE, "fork", after=10**9)
    done = run(tmp_path, ranks, how, only=None if ranks == ALONE else 0)
    assert done.stderr.count("came back in the copy, too: the copy, process") == 1
    assert summary(tmp_path / "run")["digest"] == summary(whole / "run")["digest"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    hpcq(None, "verify", list_checkpoints(tmp_path / "run")[0])
