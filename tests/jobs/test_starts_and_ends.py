"""The first and the last moments of a job, and a watchdog that nobody hears."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import make_job
import pytest
from launch import AT_ONCE, HPCQ, command, end, hpcq, start, wait_for
from soaked import soak

from hpcq.run.run_directory import list_checkpoints

ALONE, TWO = [], ["-n", "2"]
either = pytest.mark.parametrize("ranks", [ALONE, TWO], ids=["one process", "two ranks"])

# In a folder of the import path: Python runs it before all else.
STOPPED = """
import os, signal
if os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture(autouse=True)
def _plain_shell(monkeypatch, request):
    """Without what the tests set for mpirun, where hpcq starts it."""
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")) and not name.endswith("_session_dir"):
            if "own" not in request.node.name:
                monkeypatch.delenv(name)


def endless(tmp_path, **run):
    job = make_job.make({"id": "Taxi-v4", "count": 64}, run={"steps": 10**12, **run})
    return make_job.write(tmp_path / "job.toml", job), f"--set=run.directory={tmp_path}/run"


@pytest.mark.parametrize("launcher", ["hpcq", "own mpirun"])
def test_a_rank_that_does_not_come(tmp_path, monkeypatch, launcher):
    (tmp_path / "sitecustomize.py").write_text(STOPPED)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("HPCQ_START_TIMEOUT", "5")
    job = endless(tmp_path)
    if launcher == "hpcq":
        done = hpcq(None, "run", *TWO, *job, code=76, timeout=AT_ONCE)
        who = r"did not all start within 5 s .*; not begun: rank 1 \(process \d+, stopped\)\n"
        assert re.search(who, done.stderr), done.stderr
        return
    done = subprocess.run(
        command(2, "run", *job), capture_output=True, text=True, timeout=AT_ONCE, check=False
    )
    # Its stack may come too late for mpirun to pass it on.
    assert done.returncode == 1


@pytest.mark.soak
def test_a_slow_job_is_no_late_start(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCQ_START_TIMEOUT", "20")
    job = make_job.make(
        {"id": "problems:Slow", "count": 2, "reset_every": 100}, run={"steps": 10**12}
    )
    file = make_job.write(tmp_path / "job.toml", job)
    process = start(None, "run", *TWO, file, f"--set=run.directory={tmp_path}/run")
    try:
        time.sleep(25)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGHUP)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, output


# The pipe is full before the run begins, and nobody reads.
FULL = "2>&1 >/dev/null | sleep 60"


@either
@pytest.mark.parametrize("where", ["2>/dev/full", FULL, *soak("2>&-", "2>&1 | head -n 1")])
def test_a_watchdog_that_nobody_hears(tmp_path, ranks, where):
    environment = {"id": "problems:Broken-v0", "kwargs": {"how": "sleep"}, "count": 4}
    job = make_job.make(environment, run={"stall_timeout": 3, "report_every": 0.001})
    file = make_job.write(tmp_path / "job.toml", job)
    line = f"{HPCQ} run {' '.join(ranks)} {file} --set=run.directory={tmp_path}/run"
    filler = "head -c 65536 /dev/zero >&2;" if where == FULL else ""
    shell = subprocess.Popen(
        ["bash", "-c", f"({filler} {line}; echo $? >{tmp_path}/code) {where}"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: (tmp_path / "code").exists() and (tmp_path / "code").read_text())
    finally:
        end(shell)
    codes = {"76\n"}
    if ranks:
        # An mpirun that cannot speak may end with a code of its own.
        codes.add("1\n")
    if ranks and where == FULL:
        # Or it stays, and is killed.
        codes.add("137\n")
    assert (tmp_path / "code").read_text() in codes


@either
def test_a_closed_terminal_saves_the_run(tmp_path, ranks):
    process = start(None, "run", *ranks, *endless(tmp_path))
    try:
        wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        os.killpg(process.pid, signal.SIGHUP)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, output
    assert list_checkpoints(tmp_path / "run")


@either
def test_quit_ends_every_rank_with_its_stack(tmp_path, ranks):
    process = start(None, "run", *ranks, *endless(tmp_path))
    try:
        wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        os.killpg(process.pid, signal.SIGQUIT)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 131, output
    for rank in range(2 if ranks else 1):
        said = output.split(f"hpcq: rank {rank} on ")[1]
        assert "was told to quit; it is here:\n  File" in said
        assert "in _ticks" in said


def test_nohup_is_heeded(tmp_path):
    file, directory = endless(tmp_path)
    process = subprocess.Popen(
        ["nohup", HPCQ, "run", file, directory], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        os.kill(process.pid, signal.SIGHUP)
        time.sleep(1.5)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 75
    finally:
        process.kill()
        process.communicate()


STORMS = [(ranks, number) for ranks in (ALONE, TWO) for number in (signal.SIGUSR1, signal.SIGTERM)]


@pytest.mark.parametrize(("ranks", "number"), [STORMS[0], STORMS[3], *soak(STORMS[1], STORMS[2])])
def test_a_storm_of_stop_signals(tmp_path, ranks, number):
    """From Python's start, which nobody can shorten, to the very end."""
    process = start(None, "run", *ranks, *endless(tmp_path))
    try:
        wait_for(lambda: handles(process.pid, number))
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.002)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, output
    assert list_checkpoints(tmp_path / "run")


def handles(pid, number):
    """Return whether a process handles a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> number - 1 & 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_a_signal_ends_a_benchmark(number, code):
    """It has nothing to save."""
    process = start(None, "bench", "limits", "--seconds", 1000)
    try:
        maps = Path(f"/proc/{process.pid}/maps")
        wait_for(lambda: "libmpi.so" in maps.read_text())
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        end(process)
