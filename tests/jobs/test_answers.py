"""What is learned is right: the project's own jobs, and convergence to Q*."""

import re
import subprocess
from pathlib import Path

import make_job
import numpy as np
import pytest
from launch import hpcq, summary
from readme import blocks, hdf5_tools
from soaked import soak

from hpcq.envs.resolve import resolve
from hpcq.learning import exact
from hpcq.run.summary import dense_table

JOBS = Path(__file__).parents[2] / "jobs"


# The table is the same on any number of ranks. For long runs one rank takes the least processor
# time: two that wait for each other take three times as much where other tests run beside them.
@pytest.mark.parametrize(
    ("name", "ranks", "least"),
    [("taxi", 2, 0.999), ("cliffwalking", 2, 1.0), ("frozenlake8x8", 1, 0.99)],
)
def test_the_projects_jobs_reach_the_optimum(name, ranks, least, tmp_path):
    run = "run", JOBS / f"{name}.toml", f"--set=run.directory='{tmp_path}/run'"
    # Slurm's jobs start beside the first of these.
    done = hpcq(ranks, *run, timeout=560)
    found = summary(tmp_path / "run")
    greedy, optimum = found["greedy_return"], found["optimal_return"]
    # For a negative optimum, within the same share of its size.
    assert greedy >= optimum - (1 - least) * abs(optimum)
    assert greedy <= optimum + 0.01 * abs(optimum)
    if name == "cliffwalking":
        assert greedy == -13.0
    assert re.search(r"greedy policy: \S+, optimum: \S+", done.stdout)


@pytest.mark.parametrize("exponent", [0.7, *soak(0.6, 0.8)])
def test_q_converges_to_q_star(exponent, tmp_path):
    """Garnet(100, 4), gamma 0.8, uniform behaviour: 1 % of the value range, then less."""
    job = make_job.make(
        {"id": "hpcq/Garnet-v0", "kwargs": {"states": 100, "actions": 4, "seed": 1}, "count": 1024},
        learning={
            "gamma": 0.8,
            "learning_rate": {"schedule": "visits", "exponent": exponent},
        },
        exploration={"epsilon": 1.0},
        run={"steps": 1},
    )
    model = resolve(job.environment).model
    truth = exact.value_iteration(model, 0.8)
    file = make_job.write(tmp_path / "job.toml", job)
    directory = tmp_path / "run"
    command, errors = ("run", file, f"--set=run.directory='{directory}'"), []
    for ranks, steps in ((2, 1_000_000), (1, 12_000_000), (1, 144_000_000)):
        hpcq(ranks, *command, f"--set=run.steps={steps}")
        q = dense_table(Path(summary(directory)["checkpoint"]), 100)
        errors.append(np.abs(q - truth).max() / (truth.max() - truth.min()))
        command = ("resume", directory)
    assert errors[2] < 0.01, errors
    assert errors[0] > errors[1] > errors[2], errors


def test_any_hdf5_tool_reads_a_checkpoint(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET, run={"steps": 9000}))
    hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    file = summary(tmp_path / "run")["checkpoint"]
    said = ""
    for command in dict.fromkeys([*hdf5_tools(), "h5dump -H ckpt.h5"]):
        words = [file if word.endswith(".h5") else word for word in command.split()]
        said += subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert re.search(r"^/table/q +Dataset \{50, 3\}$", said, re.MULTILINE)
    assert 'DATASET "key"' in said
    assert "H5T_STD_U64LE" in said


def test_plain_h5py_reads_a_checkpoint(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make({"id": "Taxi-v4", "count": 8}))
    hpcq(1, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    program = next(b.text for b in blocks(kind="python") if b.text.startswith("import h5py"))
    file = summary(tmp_path / "run")["checkpoint"]
    program = re.sub(r'"[^"]*ckpt-[^"]*\.h5"', repr(file), program)
    done = subprocess.run(["python", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout
    assert program.count("\n") <= 10
