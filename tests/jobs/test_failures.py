"""Promise 4: every failure ends the job on all ranks, with its code and one clear message."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import make_job
import pytest
from launch import AT_ONCE, end, hpcq, ranks_of, start, wait_for
from soaked import soak

from hpcq.run.run_directory import list_checkpoints


def broken(tmp_path, how, **kwargs):
    environment = {
        "id": "problems:Broken-v0",
        "kwargs": {"how": how, **kwargs},
        "count": 4,
    }
    return make_job.write(tmp_path / "job.toml", make_job.make(environment))


def message(done):
    """Return hpcq's own lines of standard error."""
    lines = done.stderr.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("hpcq: "))
    return "\n".join(lines[first:])


@pytest.mark.parametrize("only", [None, 1])
def test_an_environment_that_raises(tmp_path, only):
    kwargs = {} if only is None else {"only": only}
    job = broken(tmp_path, "raise", **kwargs)
    done = hpcq(
        2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", code=70, timeout=AT_ONCE
    )
    text = message(done)
    assert "RuntimeError: the user's bug" in text
    assert "tick 3, episode 0, action 0: step: raised" in text
    if only is not None:
        assert text.startswith("hpcq: rank 1: environment 2 (problems:Broken-v0)")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("outside", "observation 77 is not in the space: 77 is not in 0 ... 9"),
        ("exit", "SystemExit"),
        ("make", "cannot be made"),
        # unit/test_bad_environments.py has these on one rank, and more.
        *soak(
            ("nan", "reward nan, expected a finite number"),
            ("infinite", "reward inf, expected a finite number"),
            ("old", "a tuple of 4, expected (obs, reward, terminated, truncated, info)"),
            ("kind", "observation '1' is not in the space: expected an integer"),
            ("none", "reward None, expected a finite number"),
            ("huge", "reward 1000"),
            ("text", "reward 'one', expected a finite number"),
            ("array", "terminated is array([0., 0.]), expected a bool"),
        ),
    ],
)
def test_an_environment_that_breaks_the_contract(tmp_path, how, words):
    job = broken(tmp_path, how, only=1)
    done = hpcq(
        3, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", code=70, timeout=AT_ONCE
    )
    assert words in message(done)
    assert "rank 1: " in message(done)


def test_an_environment_that_ignores_its_seed(tmp_path):
    job = broken(tmp_path, "unseeded")
    done = hpcq(1, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", code=70)
    assert "gave two different first observations" in message(done)


def test_an_environment_that_cannot_be_closed_does_no_harm(tmp_path):
    job = broken(tmp_path, "close")
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", "--set=run.steps=8")


def test_a_log_that_cannot_be_written_does_no_harm(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    directory = tmp_path / "run"
    hpcq(2, "run", job, f"--set=run.directory='{directory}'")
    (directory / "metrics.jsonl").unlink()
    (directory / "metrics.jsonl").mkdir()
    done = hpcq(2, "resume", directory, "--set=run.steps=2000")
    assert "warning: metrics.jsonl not written" in done.stdout


def test_a_resumed_run_is_not_shortened(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    done = hpcq(2, "resume", tmp_path / "run", "--set=run.steps=500", code=64)
    assert "run.steps = 500, but 1,008 steps are done" in message(done)


def test_a_checkpoint_of_another_job_is_refused(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    directory = tmp_path / "run"
    hpcq(1, "run", job, f"--set=run.directory='{directory}'")
    text = (directory / "job.json").read_text()
    (directory / "job.json").write_text(text.replace('"gamma": 0.9', '"gamma": 0.8'))
    done = hpcq(2, "resume", directory, code=65)
    assert "written by another job: learning.gamma is 0.8 here and 0.9 there" in message(done)
    (directory / "job.json").write_text("[]")
    assert "not a job" in message(hpcq(2, "resume", directory, code=65))


def test_an_environment_that_crashes_the_interpreter(tmp_path):
    job = broken(tmp_path, "segv", only=1)
    with pytest.raises(AssertionError, match=r"exit 139"):
        hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", timeout=AT_ONCE)


@pytest.mark.parametrize("kind", ["lockstep", "asynchronous", "periodic"])
def test_an_environment_that_sleeps_for_ever(tmp_path, kind):
    job = broken(tmp_path, "sleep", only=1)
    changes = f"--set=run.directory='{tmp_path / 'run'}'", f"--set=mode.kind={kind}"
    done = hpcq(3, "run", job, *changes, "--set=run.stall_timeout=5", code=76, timeout=AT_ONCE)
    assert "rank 1 on " in done.stderr
    guilty = done.stderr.split("hpcq: rank 1 on ")[1].split("hpcq: ")[0]
    assert "came to no exchange" in guilty
    assert "time.sleep(3600)" in guilty
    for rank in (0, 2):
        assert "waits for other ranks" in done.stderr.split(f"hpcq: rank {rank} on ")[1]


def test_an_environment_that_sleeps_on_the_only_rank(tmp_path):
    job = broken(tmp_path, "sleep")
    for ranks in (None, 1):
        directory = f"--set=run.directory='{tmp_path / str(ranks)}'"
        done = hpcq(
            ranks, "run", job, directory, "--set=run.stall_timeout=1", code=76, timeout=AT_ONCE
        )
        assert "came to no exchange" in done.stderr


@pytest.fixture
def endless(tmp_path):
    """Start a job on three ranks that would never end; return (process, run directory)."""
    directory = tmp_path / "run"
    job = make_job.make({"id": "Taxi-v4", "count": 64}, run={"steps": 10**12, "stall_timeout": 5})
    file = make_job.write(tmp_path / "job.toml", job)
    process = start(
        3, "run", file, f"--set=run.directory='{directory}'", "--set=checkpoint.every=50"
    )
    try:
        wait_for(lambda: directory.exists() and list_checkpoints(directory))
        yield process, directory
    finally:
        end(process)


def gone(pids):
    """Return whether all these processes have ended."""

    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "gone"

    return all(state(pid) in ("gone", "Z", "X") for pid in pids)


def test_a_stopped_rank_ends_the_job(endless):
    process, directory = endless
    ranks = ranks_of(process, 3)
    os.kill(ranks[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 76, output
    assert "rank 0 on" in output
    assert "rank 2 on" in output
    wait_for(lambda: gone(ranks), 10)
    hpcq(None, "verify", list_checkpoints(directory)[0])


@pytest.mark.parametrize("rank", [0, *soak(2)])
def test_a_killed_rank_ends_the_job(endless, rank):
    process, directory = endless
    ranks = ranks_of(process, 3)
    os.kill(ranks[rank], signal.SIGKILL)
    assert process.wait(timeout=30) == 137
    wait_for(lambda: gone(ranks), 10)
    hpcq(None, "verify", list_checkpoints(directory)[0])


def test_a_killed_launcher_leaves_no_orphans(endless):
    process, directory = endless
    ranks = ranks_of(process, 3)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: gone(ranks), 30)
    hpcq(None, "verify", list_checkpoints(directory)[0])
    # The lock of the dead is no hindrance.
    hpcq(2, "resume", directory, "--set=run.table_gib=1e-9", code=64)
    assert not (directory / "run.lock").exists()


def test_two_jobs_in_one_run_directory(endless):
    process, directory = endless
    done = hpcq(2, "resume", directory, code=73, timeout=AT_ONCE)
    owner = f"{directory} is in use: job job on host {socket.gethostname()}, process "
    assert message(done).startswith(f"hpcq: {owner}{ranks_of(process, 3)[0]}; ")
    job = make_job.write(directory.parent / "other.toml", make_job.make(make_job.GARNET))
    again = ("run", job, f"--set=run.directory='{directory}'", "--overwrite")
    assert owner in message(hpcq(1, *again, code=73, timeout=AT_ONCE))
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait(timeout=30) == 75
    assert not (directory / "run.lock").exists()


MISTAKES = {
    "learning.gama=0.9": "unknown key learning.gama; did you mean 'gamma'?",
    "environment.id=Taxy-v4": "Did you mean: `Taxi`",
    "environment.id=CartPole-v1": "CartPole-v1: observation space Box",
}


@pytest.mark.parametrize(
    ("change", "ranks"),
    [
        ("learning.gama=0.9", None),
        ("environment.id=Taxy-v4", 3),
        ("environment.id=CartPole-v1", None),
        *soak(
            ("learning.gama=0.9", 3),
            ("environment.id=Taxy-v4", None),
            ("environment.id=CartPole-v1", 3),
        ),
    ],
)
def test_a_mistake_in_the_job_is_one_message(tmp_path, change, ranks):
    job = make_job.write(tmp_path / "job.toml", make_job.make({"id": "Taxi-v4"}))
    done = hpcq(ranks, "run", job, "--set", change, code=64)
    assert message(done).startswith(f"hpcq: {job}: ")
    assert MISTAKES[change] in message(done)
    assert done.stderr.count("hpcq: ") == 1
    assert done.stdout == ""


def test_a_run_directory_is_not_overwritten_by_accident(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    arguments = ("run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    hpcq(2, *arguments)
    assert "holds a run already; go on with `hpcq resume" in message(hpcq(2, *arguments, code=73))
    hpcq(2, *arguments, "--overwrite")


def test_a_run_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    done = hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'file' / 'run'}'", code=73)
    assert "cannot write the run directory" in message(done)
    assert "Not a directory" in message(done)


def test_resume_says_what_is_not_there(tmp_path):
    assert "holds no run" in message(hpcq(2, "resume", tmp_path / "none", code=65))
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    hpcq(1, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    done = hpcq(2, "resume", tmp_path / "run", "--set=learning.gamma=0.5", code=64)
    assert "a resumed run keeps its job" in message(done)
    for file in (tmp_path / "run").glob("*.h5"):
        file.write_bytes(b"not HDF5")
    assert "no checkpoint is whole" in message(hpcq(2, "resume", tmp_path / "run", code=65))


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("content", [None, b"", b"garbage" * 1000])
def test_files_that_are_no_checkpoints(tmp_path, command, content):
    file = tmp_path / "file.h5"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in message(hpcq(None, command, file, code=65))


@pytest.mark.parametrize(
    "arguments", [["run"], ["nonsense"], ["inspect", "a", "--what"], ["verify"]]
)
def test_usage_errors_have_code_64(arguments):
    done = hpcq(None, *arguments, code=64)
    assert "Usage: hpcq" in done.stderr


def test_output_that_nobody_reads_is_no_error(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    hpcq(1, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    file = next((tmp_path / "run").glob("*.h5"))
    commands = (
        f"{sys.executable} -m hpcq inspect {file}",
        f"{sys.executable} -m hpcq run {job} --set run.directory={tmp_path / 'again'} "
        "--set run.report_every=0.001 --set run.steps=20000",
    )
    for command in commands:
        pipe = subprocess.run(
            f"set -o pipefail; {command} | head -n 1",
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            text=True,
            env=dict(os.environ),
            check=True,
        )
        assert pipe.stderr == ""
    assert (tmp_path / "again" / "summary.json").exists()


def test_inspect_as_json_and_one_row(tmp_path):
    job = make_job.write(
        tmp_path / "job.toml",
        make_job.make(
            make_job.CORRIDOR, learning={"learning_rate": {"schedule": "visits", "exponent": 0.6}}
        ),
    )
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    file = next((tmp_path / "run").glob("*.h5"))
    found = json.loads(hpcq(None, "inspect", file, "--json").stdout)
    assert found["steps"] == 1000
    assert found["updates"] == 1000 - 5  # the last tick's are pending
    top = found["largest"][0]
    row = json.loads(
        hpcq(None, "inspect", file, "--json", "--row", json.dumps(top["observation"])).stdout
    )
    assert row == top
    assert max(row["q"]) == row["q"][row["greedy"][0]]
    never = hpcq(None, "inspect", file, "--row", "[7, [0, 0]]")
    assert "never updated" in never.stdout
    assert "no observation" in message(hpcq(None, "inspect", file, "--row", "[9, [0, 0]]", code=64))
