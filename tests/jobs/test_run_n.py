"""`hpcq run -n`: hpcq starts mpirun itself."""

import contextlib
import os
import signal
import time
from pathlib import Path

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for
from soaked import soak

from hpcq.run.processes import descendants

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


def session_folder(pid):
    """Return where the mpirun that a process has started keeps its session; None: not started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            named = dict(entry.partition(b"=")[::2] for entry in variables)
            # Until it is mpirun it is a copy of its parent.
            if b"HPCQ_STARTED_BY" in named:
                return named[b"OMPI_MCA_orte_top_session_dir"]
    return None


def test_each_mpirun_has_its_own_folder(tmp_path):
    """Two of Open MPI 4 that share one can fail: one ends and removes it, one starts."""
    runs = [
        start(None, *run(tmp_path / name, "--set", "run.steps=1_000_000_000_000")) for name in "ab"
    ]
    try:
        folders = set()
        for each in runs:
            wait_for(lambda each=each: session_folder(each.pid))
            folders.add(session_folder(each.pid))
        assert len(folders) == 2
        for each in runs:
            os.kill(each.pid, signal.SIGTERM)
        for each in runs:
            each.communicate(timeout=60)
    finally:
        for each in runs:
            end(each)


DELAYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
MOMENTS = [(delay, number) for delay in DELAYS for number in (signal.SIGUSR1, signal.SIGTERM)]
SOME = MOMENTS[::5]


@pytest.mark.parametrize(("delay", "number"), SOME + soak(*(m for m in MOMENTS if m not in SOME)))
def test_a_stop_is_heard_from_the_first_moment_on(delay, number, tmp_path):
    stopped = start(None, *run(tmp_path / "run", "--set", "run.steps=1_000_000_000_000"))
    try:
        # The command itself is asked, once it is more than Python's start.
        wait_for(Path(f"/proc/{stopped.pid}/task/{stopped.pid}/children").read_text)
        time.sleep(delay)
        os.kill(stopped.pid, number)
        output, _ = stopped.communicate(timeout=60)
    finally:
        end(stopped)
    assert stopped.returncode == 75, output
    assert list((tmp_path / "run").glob("ckpt-*.h5")), output


@pytest.mark.parametrize("delay", [0.0, 0.06, *soak(0.03, 0.1, 0.15)])
def test_a_stop_after_the_end_changes_nothing(delay, tmp_path):
    done = start(None, *run(tmp_path / "run", "--set", "run.steps=20_000"))
    try:
        for line in done.stdout:
            if line.startswith("checkpoint"):
                break
        time.sleep(delay)
        done.send_signal(signal.SIGUSR1)
        output, _ = done.communicate(timeout=60)
    finally:
        end(done)
    assert done.returncode == 0, output
    assert "hpcq:" not in output


@pytest.mark.parametrize("ranks", [[], ["-n", "2"]], ids=["one process", "two ranks"])
def test_a_second_ctrl_c_ends_the_run_at_once(ranks, tmp_path):
    """This job could be saved in hours only."""
    job = make_job.make(
        {**make_job.CORRIDOR, "reset_every": 10**9}, run={"steps": 10**10, "cut_episodes": False}
    )
    file = make_job.write(tmp_path / "job.toml", job)
    run = start(None, "run", *ranks, file, f"--set=run.directory={tmp_path}/run")
    try:
        wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        os.kill(run.pid, signal.SIGINT)
        time.sleep(1)
        assert run.poll() is None
        os.kill(run.pid, signal.SIGINT)
        output, errors = run.communicate(timeout=30)
    finally:
        end(run)
    assert run.returncode == 130
    said = f"{output}{errors or ''}"
    assert "stop requested: saving in 999,9" in said
    assert said.count("hpcq: interrupted; a run can go on from its newest checkpoint") == 1
    assert "Traceback" not in said


def test_exit_codes_come_through(tmp_path):
    wrong = hpcq(None, *run(tmp_path / "run", "--set", "environment.id=Nowhere-v0"), code=64)
    assert wrong.stderr.count("hpcq: ") == 1
    assert not (tmp_path / "run").exists()


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


def test_a_command_that_is_killed_while_its_ranks_start(tmp_path):
    """They are too new to be told."""
    killed = start(None, *run(tmp_path / "run", "--set", "run.steps=1_000_000_000_000"))
    found = []
    try:
        # mpirun and its ranks, at once; before, hpcq asks mpirun for its version.
        wait_for(lambda: found.extend(descendants(killed.pid)) or len(found) == 3 or found.clear())
        os.kill(killed.pid, signal.SIGKILL)
        wait_for(lambda: all(state_of(pid) in ("Z", None) for pid in found))
    finally:
        end(killed)
    assert not (tmp_path / "run" / "run.lock").exists()


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None
