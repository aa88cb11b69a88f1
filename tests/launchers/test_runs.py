"""Runs under MPICH and Intel MPI start, learn and end as those under Open MPI do."""

import os
import re
import signal
import time
from pathlib import Path

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for
from on_terminal import on_a_terminal

from hpcq.run.processes import descendants, environ, is_alive
from hpcq.run.run_directory import list_checkpoints

TAXI = Path(__file__).parents[2] / "jobs" / "taxi.toml"


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    """The digest of a short run in one process, with this environment's MPI: Open MPI."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    hpcq(None, "run", *short(directory))
    return summary(directory)["digest"]


def short(directory):
    return TAXI, f"--set=run.directory={directory}", "--set=run.steps=200_000"


@pytest.fixture
def endless(mpi, tmp_path):
    """A job on two ranks that would never end, and has begun: process, directory."""
    job = make_job.make(
        {"id": "Taxi-v4", "count": 64},
        run={"steps": 10**12, "stall_timeout": 4},
        checkpoint={"every": 100},
    )
    file, directory = make_job.write(tmp_path / "job.toml", job), tmp_path / "run"
    place = f"--set=run.directory={directory}"
    process = start(None, "run", "-n", "2", file, place, program=mpi / "hpcq")
    try:
        wait_for((directory / "metrics.jsonl").exists)
        yield process, directory
    finally:
        end(process)


def ranks_of(process):
    """Return the processes of the ranks, in their order."""
    found = {pid: environ(pid).get("PMI_RANK", "") for pid in descendants(process.pid)}
    return sorted((pid for pid in found if found[pid]), key=found.__getitem__)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_digest_is_that_of_open_mpi(mpi, digest, ranks, tmp_path):
    done = hpcq(None, "run", "-n", ranks, *short(tmp_path / "run"), program=mpi / "hpcq")
    assert summary(tmp_path / "run")["digest"] == digest
    assert summary(tmp_path / "run")["ranks"] == ranks
    assert done.stderr == ""


def test_on_a_terminal_it_is_live(mpi, tmp_path):
    """Between mpiexec, which has the terminal, and the ranks is a proxy, which has not."""
    text = on_a_terminal([mpi / "hpcq", "run", "-n", "2", *short(tmp_path / "run")])
    assert "\x1b[?25l" in text
    assert "100.0 %" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_stop_saves(endless, number):
    process, directory = endless
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert not (directory / "run.lock").exists()


def test_a_killed_rank_ends_the_job(endless):
    process, directory = endless
    wait_for(lambda: list_checkpoints(directory))
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 137, output
    assert re.search(r"hpcq: .* ended by signal 9\n", output)
    wait_for(lambda: not any(map(is_alive, ranks)), 10)
    hpcq(None, "verify", list_checkpoints(directory)[0])


# In a folder of the import path: Python runs it before all else.
DEAD = """
import os
if os.environ.get("PMI_RANK") == "1":
    os.kill(os.getpid(), 9)
"""


def test_a_rank_that_is_killed_before_it_joins_ends_the_job(mpi, tmp_path):
    """Intel's launcher would wait for it for ever."""
    (tmp_path / "sitecustomize.py").write_text(DEAD)
    path = f"{tmp_path}:{os.environ['PYTHONPATH']}"
    arguments = ("run", "-n", "2", *short(tmp_path / "run"))
    began = time.monotonic()
    hpcq(None, *arguments, program=mpi / "hpcq", env={"PYTHONPATH": path}, code=137)
    assert time.monotonic() - began < 45


def test_a_stopped_rank_ends_the_job(endless):
    process, _ = endless
    os.kill(ranks_of(process)[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 76, output
    assert "hpcq: rank 0 on " in output
    assert "rank 1 (process" in output


def test_a_second_ctrl_c_ends_the_run_at_once(mpi, tmp_path):
    """This job could be saved in hours only."""
    job = make_job.make(
        {**make_job.CORRIDOR, "reset_every": 10**9}, run={"steps": 10**10, "cut_episodes": False}
    )
    file = make_job.write(tmp_path / "job.toml", job)
    place = f"--set=run.directory={tmp_path}/run"
    run = start(None, "run", "-n", "2", file, place, program=mpi / "hpcq")
    try:
        wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        for _ in range(2):
            os.kill(run.pid, signal.SIGINT)
            time.sleep(1)
        output, _ = run.communicate(timeout=30)
    finally:
        end(run)
    assert run.returncode == 130, output
    assert output.count("hpcq: interrupted; a run can go on from its newest checkpoint") == 1


def test_a_killed_command_leaves_nothing_running(endless):
    process, directory = endless
    found = list(descendants(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, found)), 60)
    # Saved, as at USR1.
    assert not (directory / "run.lock").exists()
