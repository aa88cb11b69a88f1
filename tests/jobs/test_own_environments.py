"""Environments of the user's own, in files beside the job: the pages' examples, and mistakes."""

import os
import re
from pathlib import Path

import make_job
import numpy as np
import pytest
from launch import hpcq, summary
from readme import blocks

from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.run.summary import dense_table

EXAMPLE = next(b.text for b in blocks(kind="python") if b.text.startswith("# corridor.py\n"))
WALK = next(b.text for b in blocks(kind="python") if b.text.startswith("# walk.py\n"))


def write(folder, text=EXAMPLE, name="corridor.py", **environment):
    (folder / name).write_text(text)
    job = make_job.make(
        {"id": f"{name}:environment", "count": 20, **environment},
        learning={"gamma": 0.9, "learning_rate": {"schedule": "visits", "exponent": 0.7}},
        exploration={"epsilon": 1.0},
        run={"steps": 400_000},
    )
    return make_job.write(folder / "job.toml", job)


def run(folder, job, code=0):
    # Not where the job is: paths are relative to the job file.
    directory = folder / f"run{len(list(folder.iterdir()))}"
    done = hpcq(None if code else 2, "run", job, f"--set=run.directory='{directory}'", code=code)
    if code:
        lines = [line for line in done.stderr.splitlines() if line.startswith("hpcq: ")]
        assert len(lines) == 1, done.stderr
        return done.stderr
    return dense_table(Path(summary(directory)["checkpoint"]), 5)


def exact(length=5, goal=1.0, cost=0.01):
    """Value iteration by hand: right moves right with 0.8, else, and always for left, left."""
    q = np.zeros((length, 2))
    for _ in range(1000):
        v = q.max(axis=1)
        for s in range(length - 1):
            ahead = goal if s + 1 == length - 1 else -cost + 0.9 * v[s + 1]
            back = -cost + 0.9 * v[max(s - 1, 0)]
            q[s] = back, 0.8 * ahead + 0.2 * back
    return q


def test_the_example_for_gymnasium_runs(tmp_path):
    job = write(tmp_path, WALK, "walk.py", id="walk.py:Walk", kwargs={"length": 5})
    assert np.abs(run(tmp_path, job) - exact(cost=0.0)).max() < 0.03


def test_the_compiled_example_runs_and_every_change_is_noticed(tmp_path):
    assert EXAMPLE.count("\n") <= 24
    assert sum(bool(line.strip()) for line in EXAMPLE.splitlines()) < 20
    job = write(tmp_path, kwargs={"length": 5})
    assert np.abs(run(tmp_path, job) - exact()).max() < 0.03
    # The same length and time, but the end pays 2.
    file = tmp_path / "corridor.py"
    times = file.stat()
    file.write_text(file.read_text().replace("1.0 if at", "2.0 if at"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert np.abs(run(tmp_path, job) - exact(goal=2.0)).max() < 0.06


def test_a_change_in_a_file_that_the_users_file_imports_is_noticed(tmp_path):
    text = EXAMPLE.replace("import numpy as np", "import numpy as np\nfrom pay import amount")
    text = text.replace("1.0 if at", "amount(key) if at")
    helper = "from hpcq.jit.compiler import kernel\nGOAL = {}\n\n\n@kernel\ndef amount(key):\n"
    for goal in (1.0, 3.0):
        (tmp_path / "pay.py").write_text(helper.format(goal) + "    return GOAL\n")
        job = write(tmp_path, text, kwargs={"length": 5})
        assert np.abs(run(tmp_path, job) - exact(goal=goal)).max() < 0.03 * goal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("np.uint64(at),", "np.uint64(at + 7),"), r"expected keys in 0 ... 4"),
        (("at == length - 1\n\n", "at == lenght - 1\n\n"), "cannot be compiled.*lenght"),
        (("1.0 if at", "'x' + 1.0 if at"), r"add\(.*corridor.py, line 16\nexpected kernels"),
        (("key, action, draw)", "key, action)"), "too many positional arguments.*expected kernels"),
        (("at == length - 1\n\n", "True, 7\n\n"), "expected 3, got 4.*expected kernels"),
        (
            (
                "def environment(length=10):",
                "def environment(length):\n    raise TypeError('mine')",
            ),
            "cannot be made.*TypeError: mine",
        ),
        (("import numpy as np", "import numpy as np\nimport nothing_there"), "cannot be imported"),
        (
            ("def environment(length=10):", "def environment(length=10)"),
            "imported:\n  File .*line 19",
        ),
        (("return compiled_environment", "return 5 or compiled_environment"), "gave a int"),
    ],
)
def test_mistakes_in_a_compiled_environment(tmp_path, change, words):
    job = write(tmp_path, EXAMPLE.replace(*change), kwargs={"length": 5})
    said = run(tmp_path, job, code=70)
    assert re.search(words, said, re.DOTALL)
    assert "pipeline" not in said


def test_compiled_code_that_differs_from_python_is_refused(tmp_path):
    # 2**63 + 5 modulo 3 is 1; numba, with a signed 3, finds 0.
    text = EXAMPLE.replace("right = action == 1 and", "right = (draw | 1 << 63) % 3 == 0 and")
    job = write(tmp_path, text, kwargs={"length": 5})
    assert "compiled, but" in run(tmp_path, job, code=70)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"kwargs": {"lenght": 5}}, "got an unexpected keyword argument 'lenght'"),
        ({"backend": "python"}, "is compiled"),
        ({"vector": 4}, "num_envs"),
        ({"wrappers": [{"entry": "a:b"}]}, "environment.wrappers is for Python environments"),
        ({"id": "none.py:environment"}, "no file .*none.py"),
        ({"id": "corridor.py:enviroment"}, "has no 'enviroment'"),
        ({"id": "no_such_module:environment"}, "no module named 'no_such_module'"),
    ],
)
def test_jobs_that_do_not_fit_a_compiled_environment(tmp_path, environment, words):
    job = Job.load(write(tmp_path, **environment))
    with pytest.raises(JobError, match=words):
        resolve(job.environment)


def test_a_mistake_on_all_ranks_is_one_message(tmp_path):
    job = write(tmp_path, EXAMPLE.replace("-0.01", "np.nan"))
    done = hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", code=70)
    assert done.stderr.count("hpcq: ") == 1
    assert "finite reward" in done.stderr


def test_a_run_goes_on_where_its_environment_has_moved(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    job, stays = write(here, kwargs={"length": 5}), f"--set=run.directory='{tmp_path}/run'"
    hpcq(None, "run", job, stays, "--set=run.steps=20_000")
    here.rename(there)
    lost = hpcq(None, "resume", tmp_path / "run", code=64).stderr
    assert f"no file {here}/corridor.py; if it has moved: --set environment.id=FOLDER/corr" in lost
    assert "--job JOB.toml" in hpcq(None, "eval", tmp_path / "run", code=64).stderr
    at = f"--set=environment.id={there}/corridor.py"
    other = hpcq(None, "resume", tmp_path / "run", f"{at}:other", code=64).stderr
    assert "a resumed run keeps its job" in other
    more = "--set=run.steps=40_000"
    hpcq(None, "resume", tmp_path / "run", f"{at}:environment", more)
    hpcq(None, "run", there / "job.toml", f"--set=run.directory='{tmp_path}/whole'", more)
    assert summary(tmp_path / "run")["digest"] == summary(tmp_path / "whole")["digest"]
    assert hpcq(None, "eval", tmp_path / "run").stdout
    # Moved once more; the job file knows where it is.
    there.rename(here)
    hpcq(None, "run", "--resume", here / "job.toml", stays, "--set=run.steps=60_000")
