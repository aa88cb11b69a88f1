"""Promise 2: stopped or extended at any moment, a run resumes and ends in the same digest.

tests/stress/kills.py kills runs at random.
"""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import make_job
import pytest
from launch import end, hpcq, ranks_of, start, summary, wait_for
from soaked import soak

from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.checkpoint.reader import read_header
from hpcq.run.run_directory import list_checkpoints

JOBS = {
    "compiled": make_job.make(
        {"id": "Taxi-v4", "count": 256, "max_episode_steps": 50},
        learning={"learning_rate": {"schedule": "visits", "exponent": 0.7}},
        exploration={"epsilon": {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": 500_000}},
        checkpoint={"every": 500},
        run={"steps": 1_500_000},
    ),
    "python": make_job.make(
        {**make_job.CORRIDOR, "count": 50},
        checkpoint={"every": 80},
        run={"steps": 150_000, "cut_episodes": False},
    ),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    digests = {}
    for name, job in JOBS.items():
        folder = tmp_path_factory.mktemp(name)
        file = make_job.write(folder / "job.toml", job)
        hpcq(2, "run", file, f"--set=run.directory='{folder / 'run'}'")
        digests[name] = summary(folder / "run")["digest"]
    return digests


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("compiled", signal.SIGUSR1),
        ("python", signal.SIGTERM),
        *soak(("compiled", signal.SIGTERM), ("python", signal.SIGUSR1)),
    ],
)
def test_a_stop_signal_saves_and_exits_with_75(name, number, tmp_path, uninterrupted):
    directory = tmp_path / "run"
    job = make_job.write(tmp_path / "job.toml", JOBS[name])
    changes = (f"run.directory='{directory}'", "checkpoint.every=50", "run.report_every=0.01")
    process = start(2, "run", job, *(f"--set={change}" for change in changes))
    try:
        # As early as can be, and with checkpoints that take time: it must not be done before.
        wait_for(lambda: reported(directory))
        # USR1 as a batch script sends it, to mpirun; TERM to one rank alone.
        os.kill(process.pid if number == signal.SIGUSR1 else ranks_of(process, 2)[-1], number)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, output
    assert "go on with `hpcq resume" in output
    stopped = int(re.search(r"stopped at step ([\d,]+)", output).group(1).replace(",", ""))
    newest = list_checkpoints(directory)[0]
    assert newest.name == f"ckpt-{stopped:015}.h5"
    hpcq(None, "verify", newest)
    hpcq(3, "resume", directory)
    assert summary(directory)["digest"] == uninterrupted[name]


SLOWLY = {"id": "problems:Slow", "kwargs": {"seconds": 0.02}, "count": 8}
MODES = {
    "lockstep": {},
    "periodic": {"kind": "periodic", "merge_every": 100_000},
    "asynchronous": {"kind": "asynchronous"},
}


@pytest.mark.parametrize(
    ("mode", "ranks"),
    [("lockstep", 2), ("periodic", 2), *soak(*((mode, n) for mode in MODES for n in (None, 2)))],
)
def test_a_slow_environment_stops_at_once_wherever_it_is(mode, ranks, tmp_path):
    """Hours before the next reset tick and merge."""
    directory = tmp_path / "run"
    run = {"steps": 10**9, "directory": str(directory), "report_every": 0.2}
    made = make_job.make({**SLOWLY, "reset_every": 100_000}, mode=MODES[mode], run=run)
    process = start(ranks, "run", make_job.write(tmp_path / "job.toml", made))
    try:
        wait_for(lambda: reported(directory))
        stopped = time.monotonic()
        os.kill(ranks_of(process, ranks)[-1] if ranks else process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        took = time.monotonic() - stopped
    finally:
        end(process)
    assert process.returncode == 75, output
    # The rest is what ending takes on a busy machine.
    assert took < 30
    steps = read_header(list_checkpoints(directory)[0]).step
    longer = f"--set=run.steps={steps + 24}"
    done = hpcq(ranks, "resume", directory, longer)
    # Asynchronous runs stop between ticks and end in one.
    assert steps + 24 <= summary(directory)["steps"] <= steps + 40
    if mode != "asynchronous":
        assert f"cut its episodes (newest at step {steps:,})" in done.stdout
        assert f"newest first at step {steps + 24:,}" in hpcq(None, "inspect", directory).stdout


def reported(directory):
    """Return whether a run has come to its first report."""
    log = directory / "metrics.jsonl"
    return log.exists() and log.stat().st_size > 0


def test_a_signal_during_start_up_is_not_lost(tmp_path, uninterrupted):
    directory = tmp_path / "run"
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    process = start(2, "run", job, f"--set=run.directory='{directory}'")
    try:
        wait_for(lambda: all(map(catches_usr1, ranks_of(process, 2))))
        os.kill(ranks_of(process, 2)[0], signal.SIGUSR1)
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, output
    hpcq(1, "resume", directory)
    assert summary(directory)["digest"] == uninterrupted["compiled"]


def catches_usr1(pid):
    """Return whether a process has come so far as to install its handlers."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def test_a_run_killed_before_its_first_checkpoint_starts_again_as_it_did(tmp_path, uninterrupted):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'first'}'", "--set=run.seed=9")
    source = summary(tmp_path / "first")["checkpoint"]
    assert f"{source}: whole" in hpcq(None, "verify", tmp_path / "first").stdout
    # A run directory stands for its newest checkpoint.
    source = tmp_path / "first"
    directory = tmp_path / "second"
    hpcq(2, "run", job, f"--set=run.directory='{directory}'", f"--set=run.start_from='{source}'")
    digest = summary(directory)["digest"]
    assert digest != uninterrupted["compiled"]
    for path in list_checkpoints(directory):
        path.unlink()
    done = hpcq(3, "resume", directory)
    assert "starting from the beginning" in done.stdout
    assert summary(directory)["digest"] == digest


def test_a_run_may_replace_the_one_that_it_starts_from(tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    arguments = ("run", job, f"--set=run.directory='{tmp_path / 'run'}'", "--set=run.steps=64_000")
    hpcq(2, *arguments)
    source = summary(tmp_path / "run")["checkpoint"]
    hpcq(2, *arguments, "--overwrite", f"--set=run.start_from='{source}'")
    hpcq(2, *arguments, "--overwrite", "--set=run.start_from=none.h5", code=65)
    # The mistake cost nothing.
    hpcq(2, "resume", tmp_path / "run")


def test_an_extension_outlives_a_kill(tmp_path, uninterrupted):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    directory = tmp_path / "run"
    hpcq(2, "run", job, f"--set=run.directory='{directory}'", "--set=run.steps=64_000")
    before = (directory / "job.json").read_text()
    often = "--set=checkpoint.every=1000000"
    process = start(2, "resume", directory, "--set=run.steps=1_500_000", often)
    try:
        wait_for(lambda: (directory / "job.json").read_text() != before)
        os.kill(ranks_of(process, 2)[0], signal.SIGKILL)
        process.wait(timeout=60)
    finally:
        end(process)
    hpcq(1, "resume", directory)
    assert summary(directory)["digest"] == uninterrupted["compiled"]


def test_a_finished_run_can_be_extended(tmp_path, uninterrupted):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    directory = tmp_path / "run"
    hpcq(2, "run", job, f"--set=run.directory='{directory}'", "--set=run.steps=614_400")
    assert summary(directory)["steps"] == 614_400
    hpcq(3, "resume", directory, "--set=run.steps=1_500_000")
    assert summary(directory)["digest"] == uninterrupted["compiled"]


def test_a_damaged_checkpoint_is_skipped_loudly(tmp_path, uninterrupted):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    directory = tmp_path / "run"
    hpcq(2, "run", job, f"--set=run.directory='{directory}'")
    newest, second = list_checkpoints(directory)[:2]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    assert "damaged" in hpcq(None, "verify", newest, code=65).stderr
    done = hpcq(2, "resume", directory, "--set=checkpoint.keep=1")
    assert f"skipped {newest}" in done.stdout
    assert [path.name for path in list_checkpoints(directory)] == [newest.name]
    hpcq(None, "verify", newest)
    assert f"resuming {second}" in done.stdout
    assert summary(directory)["digest"] == uninterrupted["compiled"]


def test_a_new_run_starts_from_anothers_table(tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'first'}'")
    source = summary(tmp_path / "first")["checkpoint"]
    hpcq(
        3,
        "run",
        job,
        f"--set=run.directory='{tmp_path / 'second'}'",
        f"--set=run.start_from='{source}'",
        "--set=learning.learning_rate=0.0",
        "--set=run.steps=640",
    )
    first, second = summary(tmp_path / "first"), summary(tmp_path / "second")
    assert second["greedy_return"] == first["greedy_return"]
    assert second["states"] >= first["states"]
    other = make_job.write(tmp_path / "other.toml", make_job.make(make_job.GARNET))
    done = hpcq(
        2,
        "run",
        other,
        f"--set=run.directory='{tmp_path / 'third'}'",
        f"--set=run.start_from='{source}'",
        code=65,
    )
    assert "environment Taxi-v4, but the job has hpcq/Garnet-v0" in done.stderr


@pytest.mark.skipif(not HAS_MPI, reason="needs an h5py with MPI")
def test_resume_with_the_other_writer(tmp_path, uninterrupted):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    directory = tmp_path / "run"
    hpcq(
        2,
        "run",
        job,
        f"--set=run.directory='{directory}'",
        "--set=run.steps=614_400",
        "--set=checkpoint.writer=gather",
    )
    hpcq(3, "resume", directory, "--set=run.steps=1_500_000", "--set=checkpoint.writer=mpio")
    assert summary(directory)["digest"] == uninterrupted["compiled"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, *soak(signal.SIGKILL)])
def test_a_signal_while_resume_reads_damages_nothing(tmp_path, number):
    """As Slurm sends it to every process of a job that it preempts, or kills."""
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    directory = tmp_path / "run"
    hpcq(1, "run", job, f"--set=run.directory='{directory}'", "--set=run.steps=64_000")
    before = list_checkpoints(directory)
    process, signalled = start(None, "resume", directory, "--set=run.steps=1_500_000"), set()
    try:
        # Its children are those that look into files.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None:
            with contextlib.suppress(OSError):
                for pid in children.read_text().split():
                    if b"sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), number)
                        signalled.add(pid)
            time.sleep(0.002)
        output, _ = process.communicate(timeout=120)
    finally:
        end(process)
    assert signalled
    assert process.returncode == (0 if number == signal.SIGUSR1 else 74), output
    assert not list(directory.glob("*.damaged*"))
    if number == signal.SIGKILL:
        assert "the process that does so was ended by SIGKILL" in output
        assert list_checkpoints(directory) == before
