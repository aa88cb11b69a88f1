"""`hpcq run -n`: hpcq starts mpirun itself."""

import os
import signal
from pathlib import Path

import pytest
from launch import end, hpcq, start, summary, wait_for

TAXI = Path(__file__).parents[2] / "jobs" / "taxi.toml"


@pytest.fixture(autouse=True)
def _plain_shell(monkeypatch):
    """Without what the tests set for mpirun."""
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")):
            monkeypatch.delenv(name)


def run(directory, *arguments):
    return ["run", "-n", "2", TAXI, "--set", f"run.directory={directory}", *arguments]


def test_ctrl_c_saves_and_the_run_ends_as_an_uninterrupted_one(tmp_path):
    steps = "run.steps=6_000_000"
    hpcq(None, "run", TAXI, "--set", f"run.directory={tmp_path}/whole", "--set", steps)
    stopped = start(None, *run(tmp_path / "stopped", "--set", steps))
    try:
        wait_for((tmp_path / "stopped" / "job.json").exists)
        os.kill(stopped.pid, signal.SIGINT)
        output, _ = stopped.communicate(timeout=60)
    finally:
        end(stopped)
    assert stopped.returncode == 75, output
    assert "mpirun" not in output  # only hpcq's own words
    resumed = hpcq(None, "resume", "-n", "3", tmp_path / "stopped")
    assert "3 ranks" in resumed.stdout
    assert summary(tmp_path / "stopped")["digest"] == summary(tmp_path / "whole")["digest"]


def test_exit_codes_come_through(tmp_path):
    wrong = hpcq(None, *run(tmp_path, "--set", "environment.id=Nowhere-v0"), code=64)
    assert wrong.stderr.count("hpcq: ") == 1


def test_a_killed_command_leaves_nothing_running(tmp_path):
    killed = start(None, *run(tmp_path, "--set", "run.steps=1_000_000_000_000"))
    try:
        wait_for((tmp_path / "job.json").exists)
        (mpirun,) = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
        os.kill(killed.pid, signal.SIGKILL)
        # Saved, as at USR1; it is no child of ours, and whoever inherits it may not wait for it.
        wait_for(lambda: not (tmp_path / "run.lock").exists())
        wait_for(lambda: state_of(mpirun) in ("Z", None))
    finally:
        end(killed)
    assert list(tmp_path.glob("ckpt-*.h5"))


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None
