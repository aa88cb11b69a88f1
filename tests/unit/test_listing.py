"""`hpcq runs`: what a folder of runs holds, whatever somebody has left in it."""

import json
import os
import subprocess
import sys
import time

import pytest

from hpcq.errors import JobError
from hpcq.view.listing import list_runs, runs_text

HOLD = """
import fcntl, json, os, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(json.dumps({"host": os.uname().nodename, "pid": os.getpid()}))
file.flush()
print("held", flush=True)
time.sleep(60)
"""


def make_run(directory, *, steps=100, summary=None, lines=()):
    directory.mkdir(parents=True)
    job = {"name": directory.name, "run": {"steps": steps}}
    (directory / "job.json").write_text(json.dumps(job))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "metrics.jsonl").write_text(text)
    if summary:
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def test_states_steps_and_returns(tmp_path):
    lines = [
        {"step": 40, "mean_return": 1.5, "evaluation_return": 2.5},
        {"step": 50, "mean_return": None, "evaluation_return": None},
    ]
    make_run(tmp_path / "done", lines=lines, summary={"steps": 100})
    make_run(tmp_path / "sweeps" / "one", lines=lines)
    (tmp_path / "sweeps" / "one" / "ckpt-000000000000050.h5").touch()
    broken = make_run(tmp_path / "broken")
    (broken / "job.json").write_text("{")
    os.mkfifo(make_run(tmp_path / "odd") / "run.lock")
    (tmp_path / "other").mkdir()
    found = {run.directory.removeprefix(f"{tmp_path}/"): run for run in list_runs(tmp_path)}
    assert found.keys() == {"done", "sweeps/one", "broken", "odd"}
    assert (found["done"].state, found["done"].steps) == ("done", 100)
    one = found["sweeps/one"]
    assert (one.state, one.steps, one.wanted) == ("stopped", 50, 100)
    assert (one.mean_return, one.evaluation_return) == (1.5, 2.5)
    assert found["odd"].state == "not saved"
    assert "JSON" in found["broken"].state
    assert len(runs_text(list_runs(tmp_path)).splitlines()) == 5


def test_a_run_whose_lock_is_held_is_running(tmp_path):
    directory = make_run(tmp_path / "going")
    command = [sys.executable, "-c", HOLD, directory / "run.lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            assert list_runs(tmp_path)[0].state == "running"
            # Looking took nothing from its owner.
            assert list_runs(tmp_path)[0].state == "running"
        finally:
            holder.kill()
    assert list_runs(tmp_path)[0].state == "not saved"


def test_a_lock_of_another_host_counts_while_it_is_fresh(tmp_path):
    lock = make_run(tmp_path / "away") / "run.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert list_runs(tmp_path)[0].state == "running"
    os.utime(lock, (time.time() - 1000,) * 2)
    assert list_runs(tmp_path)[0].state == "not saved"


def test_no_folder_is_said(tmp_path):
    with pytest.raises(JobError, match="no such folder"):
        list_runs(tmp_path / "none")
