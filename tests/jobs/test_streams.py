"""Standard streams that are closed, full, without a reader, or taken away decide nothing."""

import os
import subprocess

import make_job
import pytest
from launch import HPCQ, summary

LAKE = {"id": "FrozenLake-v1", "count": 64}


def shell(line, **env):
    """Run a line of bash, in which $HPCQ is the command."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HPCQ": HPCQ, **env},
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def job(tmp_path):
    run = {"steps": 200_000, "report_every": 0.01, "directory": str(tmp_path / "run")}
    return make_job.write(tmp_path / "job.toml", make_job.make(LAKE, run=run))


@pytest.mark.parametrize("ranks", ["", "-n 2"])
@pytest.mark.parametrize(
    "where", ["| head -n 1", ">/dev/full 2>&1", ">&- 2>&- <&-", "2>/dev/full >/dev/full"]
)
def test_a_run_ends_as_if_it_had_been_heard(tmp_path, job, ranks, where):
    done = shell(f'"$HPCQ" run {ranks} {job} {where}')
    assert (done.returncode, done.stderr) == (0, "")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert summary(tmp_path / "run")["steps"] >= 200_000
    assert not any(name.endswith((".partial", ".lock")) for name in files)


def test_all_that_ranks_say_arrives(job):
    done = shell(f'"$HPCQ" run -n 2 {job} --overwrite')
    assert "digest" in done.stdout
    assert "checkpoint" in done.stdout
    both = shell(f'"$HPCQ" run -n 2 {job} 2>&1')
    assert both.returncode == 73
    assert "--overwrite" in both.stdout


def test_what_cannot_be_shown_is_escaped(tmp_path, job):
    folder = tmp_path / "über"
    done = shell(
        f'"$HPCQ" run {job} --set run.directory=\'"{folder}"\'',
        PYTHONIOENCODING="ascii",
        HPCQ_LIVE="0",
    )
    assert done.returncode == 0, done.stderr
    assert r"\xfcber" in done.stdout


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_a_command_that_cannot_be_read_says_so_once(where):
    for command in ("jobs", "--help"):
        done = shell(f'"$HPCQ" {command} {where}')
        assert done.returncode == 74
        assert done.stderr.startswith("hpcq: standard output cannot be written: ")
        assert done.stderr.count("\n") == 1
    assert shell('"$HPCQ" reference | head -n 1').returncode == 0


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_codes_do_not_depend_on_who_listens(tmp_path, where):
    assert shell(f'"$HPCQ" run none.toml {where}').returncode == 64
    assert shell(f'"$HPCQ" inspect {tmp_path} {where}').returncode == 65
    done = shell(f'"$HPCQ" inspect --wrong {where}')
    assert (done.returncode, done.stdout) == (64, "")


@pytest.mark.parametrize("ranks", ["", "-n 2"])
def test_an_environment_that_takes_the_streams_away(tmp_path, ranks):
    environment = {"id": "problems:Thief", "count": 8, "reset_every": 20}
    path = make_job.write(tmp_path / "job.toml", make_job.make(environment, run={"steps": 320}))
    done = shell(f'cd {tmp_path}; "$HPCQ" run {ranks} {path}')
    assert (done.returncode, done.stderr) == (0, "")
    assert "checkpoint " in done.stdout
    faulty = shell(f'cd {tmp_path}; "$HPCQ" run {ranks} {path} --overwrite --set '
                   "environment.kwargs.fails=true")  # fmt: skip
    assert faulty.returncode == 70
    assert "ValueError: stolen \\udcff" in faulty.stderr
