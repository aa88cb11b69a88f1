"""`--retries`: what is killed or stalls goes on at once, and ends as if nothing had been."""

import json
import os
import re
import signal

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for
from soaked import soak

from hpcq.checkpoint import node_memory


@pytest.fixture
def job(tmp_path):
    """A job that saves all the time."""
    found = make_job.make(
        {"id": "Taxi-v4", "count": 64, "max_episode_steps": 50},
        checkpoint={"every": 40},
        run={"steps": 64 * 8_000, "stall_timeout": 20, "directory": str(tmp_path / "run")},
    )
    return make_job.write(tmp_path / "job.toml", found)


def rank_0(directory):
    return json.loads((directory / "run.lock").read_text())["pid"]


@pytest.mark.parametrize("number", [signal.SIGKILL, *soak(signal.SIGSTOP)])
def test_a_rank_that_is_killed_or_stopped(number, job, tmp_path):
    seldom = "--set=checkpoint.every=1e6"
    alone = "--set=run.directory='" + str(tmp_path / "alone") + "'"
    hpcq(None, "run", job, seldom, alone)
    run = start(None, "run", "-n", "2", "--retries", "2", job)
    try:
        wait_for(lambda: list((tmp_path / "run").glob("ckpt-*.h5")))
        os.kill(rank_0(tmp_path / "run"), number)
        said, _ = run.communicate(timeout=200)
    finally:
        end(run)
    assert run.returncode == 0, said
    assert summary(tmp_path / "run")["digest"] == summary(tmp_path / "alone")["digest"]
    what = r"rank 0 \(process \d+\) on \S+ was ended by signal 9" if number == 9 else "is stopped"
    assert re.search(what, said), said
    assert re.search(r"retry 1 of 2: from step [\d,]+; lost: ", said)
    assert "resuming" in said
    assert re.search(r"learning again \d+\.\d s after the ranks had ended", said)


def test_what_only_memory_holds_is_gone_on_from(job, tmp_path):
    seldom = "--set=checkpoint.every=1e6"
    alone = "--set=run.directory='" + str(tmp_path / "alone") + "'"
    hpcq(None, "run", job, seldom, alone)
    directory = tmp_path / "run"
    in_memory = "--set=checkpoint.memory_seconds=0.001"
    run = start(None, "run", "-n", "2", "--retries", "1", job, seldom, in_memory)
    try:
        wait_for(lambda: node_memory.newest(node_memory.number_of(directory) or "none"))
        os.kill(rank_0(directory), signal.SIGKILL)
        said, _ = run.communicate(timeout=200)
    finally:
        end(run)
    assert run.returncode == 0, said
    assert re.search(r"retry 1 of 1: from step [1-9][\d,]+; lost: ", said), said
    assert re.search(r"resuming /dev/shm/hpcq-\S+/ckpt-\d+.h5 at step ", said), said
    assert summary(directory)["digest"] == summary(tmp_path / "alone")["digest"]
    assert not [one for one in node_memory.folders() if node_memory.run_of(one) == directory]


def test_an_environment_that_always_crashes(tmp_path):
    broken = {"id": "problems:Broken-v0", "kwargs": {"how": "segv"}, "count": 4}
    job = make_job.write(tmp_path / "job.toml", make_job.make(broken))
    place = f"--set=run.directory='{tmp_path / 'run'}'"
    done = hpcq(None, "run", "-n", "2", "--retries", "1", job, place, code=139)
    assert done.stderr.count("was ended by signal 11") == 2
    assert "retry 1 of 1: from the beginning" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "hpcq: failed 2 times with nothing saved between: giving up"
    )


def test_retries_are_of_ranks(tmp_path):
    done = hpcq(None, "run", "--retries", "1", tmp_path / "job.toml", code=64)
    assert "--retries needs -n" in done.stderr
