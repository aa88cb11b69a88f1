"""The pages' commands, run by a user in a new directory: ```bash blocks, then sentences."""

import os
import re
import subprocess
from importlib.util import find_spec

import pytest
from readme import blocks, in_sentences

COMMANDS = [line for block in blocks(kind="bash") for line in block.commands]
# Smaller than what people want to see, by the same words.
SMALLER = [
    (r"hpcq run (.*)", r"hpcq run \1 --set run.steps=200_000"),
    (r"(blackjack.toml .*)200_000", r"\g<1>1000 --set environment.reset_every=50"),
    (r"run.steps=500_000", "run.steps=10_000"),
    (r"run.steps=40_000_000", "run.steps=400_000"),
    (r"--episodes 1000", "--episodes 20"),
    # There is no such step in a shorter run.
    (r"runs/taxi/ckpt-0\d+\.h5", "$(ls runs/taxi/ckpt-*.h5 | tail -n 1)"),
]
# FrozenLake is drawn by it.
DRAWN = find_spec("pygame") is not None
if not DRAWN:
    SMALLER.append((r"hpcq eval runs/lake --render.*", "true"))
BEFORE = """
hpcq jobs copy frozenlake
hpcq run frozenlake.toml --set run.steps=200_000 --set run.directory=runs/lake \\
    --set evaluation.every=100_000
"""
# What stands for something of the user's.
PLACES = [
    ("copy NAME", "copy frozenlake8x8"),
    ("init mine.py:Mine", "init walk.py:Walk"),
    ("-n 64 hpcq run job.toml", "-n 2 hpcq run taxi.toml --overwrite --set run.steps=200_000"),
    ("RUN_DIR", "runs/taxi"),
    ("-n 4 hpcq doctor DIRECTORY", "-n 2 hpcq doctor ."),
    ("WORD", "gamma"),
    # Of a job that has not run yet.
    ("check -n 2 taxi.toml", "check -n 2 frozenlake8x8.toml"),
    # Without the tracker's package, that is said.
    ("publish RUN --to mlflow", "publish runs/taxi --to mlflow || [ $? = 69 ]"),
    ("sweep run SWEEP", "sweep run sweep.toml --set run.steps=1000 --set run.directory=runs/swept"),
    ("scaling run JOB", "scaling run taxi.toml --repeat 1 --ranks 1 --set run.steps=200_000"),
    ("JOB --member", "sweep.toml --set run.steps=1000 --member"),
]
SWEPT = r"""
(printf '[sweep]\nrun.seed = [1, 2, 3, 4]\n'; cat frozenlake.toml) > sweep.toml
"""
# As the front page says of root, and of more ranks than cores.
OURSELVES = """
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun() { command mpirun --oversubscribe "$@"; }
"""


def smaller(command):
    for pattern, by in SMALLER:
        command = re.sub(pattern, by, command)
    return command


def filled(command):
    for place, mine in PLACES:
        command = command.replace(place, mine)
    return command


def test_a_new_user_gets_through(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_")):
            monkeypatch.delenv(name)
    assert len(COMMANDS) > 20
    told = in_sentences("hpcq")
    assert len(told) > 5
    own = next(block.text for block in blocks(kind="python") if "# walk.py" in block.text)
    (tmp_path / "walk.py").write_text(own)
    lines = [BEFORE, *map(smaller, COMMANDS), SWEPT, OURSELVES, *map(filled, told)]
    script = "\n".join(["set -ex", *lines])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # Not what MPI, where another test has started it in this process, has put beside it.
        env=dict(os.environ),
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    assert "4 ranks" in done.stdout
    for made in ("taxi.csv", "pictures/maps.png", "runs/taxi/report.html"):
        assert (tmp_path / made).stat().st_size > 1000
    assert "merge_every" in (tmp_path / "hpcq.schema.json").read_text()
    if DRAWN:
        assert (tmp_path / "lake.gif").stat().st_size > 1000
