"""Where jobs and commands stand: links, pipes, a working folder that is gone, numba's own file."""

import json
import os
import subprocess
import sys

import make_job
import pytest

import hpcq as package
from hpcq.envs.loading import load_module
from hpcq.errors import DependencyError, ExitCode
from hpcq.job.toml_io import read

JOB = '[environment]\nid = "mine.py:Mine"\n'


def run_hpcq(*words, **options):
    command = [sys.executable, "-P", "-m", "hpcq", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_link_to_a_job_finds_what_lies_beside_the_job(tmp_path):
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "mine.py").touch()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "link.toml").symlink_to("../job.toml")
    found = read(folder / "link.toml")
    assert found["environment"]["id"] == f"{tmp_path / 'mine.py'}:Mine"
    assert found["name"] == "link"
    (folder / "mine.py").touch()
    assert read(folder / "link.toml")["environment"]["id"] == f"{folder / 'mine.py'}:Mine"


def test_a_job_from_a_pipe_stands_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    end, other = os.pipe()
    os.write(other, JOB.encode())
    os.close(other)
    found = read(f"/dev/fd/{end}")
    os.close(end)
    assert found["environment"]["id"] == f"{tmp_path / 'mine.py'}:Mine"


@pytest.mark.parametrize("command", ["run", "solve", "explore"])
def test_a_pipe_that_ranks_could_not_read_is_refused(command):
    found = run_hpcq(command, "-n", "2", "/dev/stdin", input=JOB)
    assert found.returncode == ExitCode.USAGE
    assert "write the job to a file" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_working_folder_that_is_gone_is_one_message(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    found = run_hpcq("jobs", cwd=gone, preexec_fn=gone.rmdir)
    assert found.returncode == ExitCode.STORAGE
    assert "working folder" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["train", "kernel", "evaluate"])
def test_no_compiler_is_one_error_from_python(name, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with pytest.raises(DependencyError, match="unset NUMBA_DISABLE_JIT"):
        getattr(package, name)


@pytest.mark.parametrize("threads", ["0", "-1", "x", ""])
def test_threads_that_numba_does_not_take_are_one_message(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    found = run_hpcq("--version", cwd=tmp_path)
    assert found.returncode == ExitCode.DEPENDENCY
    assert "NUMBA_NUM_THREADS" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("text", [b"opt: [", b"[1]", b"\xff"])
def test_settings_of_numba_that_it_cannot_read_are_one_message(tmp_path, text):
    (tmp_path / ".numba_config.yaml").write_bytes(text)
    found = run_hpcq("--version", cwd=tmp_path)
    assert found.returncode == ExitCode.DEPENDENCY
    assert str(tmp_path / ".numba_config.yaml") in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    job = make_job.make(make_job.GARNET, run={"directory": "~/runs/one"})
    assert str(job.directory) == "/somewhere/runs/one"


def test_plots_do_not_follow_the_users_style(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "job.json").write_text(make_job.make(make_job.GARNET).text())
    lines = [{"step": n, "mean_return": n, "steps_per_second": n} for n in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    found = run_hpcq("plot", "run", cwd=tmp_path)
    assert found.returncode == ExitCode.DONE, found.stderr
    assert (run / "learning.png").exists()


def test_what_an_environments_package_lacks_is_named(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import numpy\nimport not_there.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyError, match=r"lacking.py, line 2\).*'not_there'"):
        load_module("lacking")


def test_a_backend_that_is_none_matters_to_no_plot():
    code = "from hpcq.view import drawing; drawing.load_matplotlib(); import os; "
    code += "print(os.environ['MPLBACKEND'])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "nonsense\n", found.stderr
