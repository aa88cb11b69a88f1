"""`hpcq sweep run` and `hpcq scaling run`: several jobs on one machine, without Slurm."""

import os
import re
import signal
import subprocess
import sys
import time

import make_job
import pytest
from launch import HPCQ, end, hpcq, start, summary, wait_for
from on_terminal import on_a_terminal

from hpcq.run.processes import descendants, environ, is_alive

LISTS = "[sweep]\nlearning.learning_rate = [0.1, 0.5]\nrun.seed = [1, 2]\n\n"

MEMBER_BY_MEMBER = """
import hpcq
from hpcq.cluster.sweep import load

for member in load("lake.toml", ["run.directory=one"]).members:
    hpcq.train(member.job)
"""


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path, monkeypatch):
    """In a plain shell, without what the tests set for mpirun."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")):
            monkeypatch.delenv(name)


def sweep(tmp_path, lists=LISTS, environment=make_job.GARNET, **run):
    """Write the job file of a sweep."""
    job = make_job.make(environment, run={"report_every": 0.05, **run})
    file = make_job.write(tmp_path / "lake.toml", job)
    file.write_text(lists + file.read_text())
    return file


def reported(tmp_path, *members):
    """Return whether members have come to their first report."""
    logs = [tmp_path / "runs" / "lake" / f"{member:03d}" / "metrics.jsonl" for member in members]
    return all(log.exists() and log.stat().st_size for log in logs)


def test_killed_stopped_and_started_again_it_ends_in_the_table_of_its_members(tmp_path):
    """About 30 s of processor time: four members, in pieces and in whole."""
    file = sweep(tmp_path, steps=3_000_000)
    runs = tmp_path / "runs" / "lake"

    killed = start(None, "sweep", "run", "--at-once", "2", file)
    try:
        wait_for(lambda: reported(tmp_path, 0, 1))
        below = list(descendants(killed.pid))
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        # Started again while those of before still save.
        again = start(None, "sweep", "run", "--at-once", "2", file)
        wait_for(lambda: not any(map(is_alive, below)), 60)
        assert all(list((runs / name).glob("ckpt-*.h5")) for name in ("000", "001"))

        wait_for(lambda: reported(tmp_path, 2))
        below = list(descendants(again.pid))
        os.kill(again.pid, signal.SIGTERM)
        output, _ = again.communicate(timeout=60)
        assert again.returncode == 75, output
        assert not any(map(is_alive, below))
        assert "member 2: stopped and saved" in output
        assert "the same command goes on" in output
        assert not (runs / "002" / "summary.json").exists()
    finally:
        end(killed)
    done = hpcq(None, "sweep", "run", file)
    assert "member 2: done" in done.stdout
    assert "4 of 4 runs done" in done.stdout
    assert "resuming runs/lake/002" in (runs / "002.log").read_text()

    subprocess.run([sys.executable, "-c", MEMBER_BY_MEMBER], check=True)
    for name in ("000", "001", "002", "003"):
        assert summary(runs / name)["digest"] == summary(f"one/{name}")["digest"]
    hpcq(None, "sweep", "collect", file, "--set", "run.directory=one")
    assert (runs / "sweep.csv").read_bytes() == (tmp_path / "one" / "sweep.csv").read_bytes()
    assert (runs / "sweep.png").read_bytes().startswith(b"\x89PNG")

    logs = [path.stat().st_size for path in runs.glob("*.log")]
    assert "4 runs, 4 of them done" in hpcq(None, "sweep", "run", file).stdout
    assert [path.stat().st_size for path in runs.glob("*.log")] == logs


def test_a_sweep_that_is_extended_is_not_done(tmp_path):
    file = sweep(tmp_path, "[sweep]\nrun.seed = [1, 2]\n\n")
    shown = on_a_terminal([HPCQ, "sweep", "run", "-n", "2", "lake.toml"])
    # One line, updated in place.
    assert re.search(r"\d+\.\d %  [01] of 2 done", shown)
    assert "2 of 2 runs done" in shown
    assert summary(tmp_path / "runs" / "lake" / "001")["ranks"] == 2
    longer = start(None, "sweep", "run", file, "--at-once=2", "--set=run.steps=1_000_000_000_000")
    try:
        wait_for(lambda: not (tmp_path / "runs" / "lake" / "000" / "summary.json").exists())
        os.kill(longer.pid, signal.SIGINT)
        output, _ = longer.communicate(timeout=60)
    finally:
        end(longer)
    assert longer.returncode == 75, output
    assert re.search(r"\b0 +1 +not done: at step", hpcq(None, "sweep", "list", file).stdout)


def test_a_member_that_fails_is_named_and_the_others_are_finished(tmp_path):
    file = sweep(tmp_path, "[sweep]\nenvironment.kwargs.states = [0, 50, -1]\n\n")
    done = hpcq(None, "sweep", "run", "--at-once", "1", file, code=64)
    failure = done.stdout.partition("member 0: FAILED")[2].splitlines()
    assert "exit code 64" in failure[0]
    assert failure[1].startswith("    hpcq: ")
    assert "states" in failure[1]
    assert "member 1: done" in done.stdout
    assert "member 2: FAILED" in done.stdout
    assert "1 of 3 runs done" in hpcq(None, "sweep", "collect", file).stdout


def test_a_member_whose_rank_is_killed_is_started_again(tmp_path):
    file = sweep(tmp_path, "[sweep]\nrun.seed = [1]\n\n", steps=1_500_000)
    run = start(None, "sweep", "run", "-n", "2", "--retries", "1", file)
    try:
        wait_for(lambda: reported(tmp_path, 0))
        os.kill(max(pid for pid in descendants(run.pid) if "PMIX_RANK" in environ(pid)), 9)
        output, _ = run.communicate(timeout=200)
    finally:
        end(run)
    assert run.returncode == 0, output
    assert "member 0: done" in output
    assert "signal 9" in (tmp_path / "runs" / "lake" / "000.log").read_text()


@pytest.mark.soak
def test_a_second_ctrl_c_ends_every_member_at_once(tmp_path):
    """These jobs could be saved in hours only."""
    file = sweep(
        tmp_path,
        "[sweep]\nrun.seed = [1, 2]\n\n",
        {**make_job.CORRIDOR, "reset_every": 10**9},
        steps=10**10,
        cut_episodes=False,
    )
    run = start(None, "sweep", "run", "--at-once", "2", file)
    try:
        wait_for(lambda: reported(tmp_path, 0, 1))
        below = list(descendants(run.pid))
        os.kill(run.pid, signal.SIGINT)
        time.sleep(1)
        assert run.poll() is None
        os.kill(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=30)
    finally:
        end(run)
    assert run.returncode == 130, output
    assert not any(map(is_alive, below))


def test_mistakes_are_told_before_anything_runs(tmp_path):
    file = sweep(tmp_path)
    launched = hpcq(None, "sweep", "run", file, code=64, env={"PMI_SIZE": "2"})
    assert "PMI_SIZE=2" in launched.stderr
    piped = subprocess.run(
        [HPCQ, "sweep", "run", "/dev/stdin"],
        input=file.read_text(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert piped.returncode == 64
    assert "expected a file, not a pipe" in piped.stderr
    (tmp_path / "runs").write_text("")
    assert "cannot be made" in hpcq(None, "sweep", "run", file, code=73).stderr


def test_scaling_on_one_and_two_ranks(tmp_path):
    file = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    words = ("scaling", "run", file, "-n", "2", "--repeat", "1")
    done = hpcq(None, *words)
    assert "all strong runs end in one digest" in done.stdout
    folder = tmp_path / "runs" / "job-scaling"
    planned = hpcq(None, "scaling", "plan", file, "--ranks", "2", "--repeat", "1").stdout
    assert {str(path.relative_to(tmp_path)) for path in folder.glob("*/")} == {
        line.split()[1] for line in planned.splitlines()
    }
    assert summary(folder / "weak-0002-0")["ranks"] == 2
    assert (folder / "scaling.csv").read_text().count("\n") == 5
    # What was measured stays, and what was not is measured.
    (folder / "weak-0002-0" / "summary.json").unlink()
    assert "4 runs, 3 of them done" in hpcq(None, *words).stdout
    # That of another job is not replaced.
    hpcq(None, *words, "--set", "learning.gamma=0.5", code=64)
