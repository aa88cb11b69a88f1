"""Promise 1 on real command lines: one job, one digest."""

import os
import subprocess
import sys
from pathlib import Path

import make_job
import pytest
from launch import hpcq, summary

from hpcq.checkpoint.h5 import HAS_MPI

SUPPORT = Path(__file__).parents[1] / "support"
PARALLEL = "mpio" if HAS_MPI else "direct"
# Ranks, and the writer of their checkpoints; the file is the same.
RUNS = [(1, "direct"), (2, "direct"), (2, "gather"), (3, PARALLEL), (4, "gather"), (7, PARALLEL)]
JOBS = {
    "compiled": make_job.make({"id": "Taxi-v4", "count": 30}, run={"steps": 15_000}),
    "two batches": make_job.make(
        {"id": "Taxi-v4", "count": 31}, mode={"batches": 2}, run={"steps": 15_000}
    ),
    "python": make_job.make(make_job.CORRIDOR, run={"steps": 2000}),
    "vector, floats and wrappers": make_job.make(
        {
            "id": "CartPole-v1",
            "count": 12,
            "vector": 4,
            "reset_every": 50,
            "discretise": {"bins": [6], "low": [-2.4, -3, -0.2, -3], "high": [2.4, 3, 0.2, 3]},
            "wrappers": [
                {
                    "entry": "gymnasium.wrappers.vector:DtypeObservation",
                    "kwargs": {"dtype": "float64"},
                }
            ],
        },
        run={"steps": 3000},
    ),
    "more ranks than states": make_job.make(
        {"id": "hpcq/Garnet-v0", "kwargs": {"states": 3, "actions": 2, "branching": 2}, "count": 4},
        run={"steps": 2000},
    ),
    "ranks without environments": make_job.make({**make_job.GARNET, "count": 2}),
}
DIGESTED = make_job.make({**make_job.CORRIDOR, "codec": "digest"}, run={"steps": 2000})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train every job in every way, in one mpirun; return the folder with RUN's in it."""
    folder = tmp_path_factory.mktemp("runs")
    for name, job in JOBS.items():
        make_job.write(folder / f"{name}.toml", job)
    names = [f"{name},{ranks},{writer}" for name in JOBS for ranks, writer in RUNS]
    subprocess.run(
        ["mpirun", "-n", str(max(RUNS)[0]), sys.executable, SUPPORT / "one_job.py", folder, *names],
        env=dict(os.environ),
        timeout=240,
        check=True,
    )
    return folder


@pytest.mark.parametrize("name", JOBS)
def test_one_digest(name, runs):
    """The command lines, without mpirun and with it, come to what all the others come to."""
    found = {way: summary(runs / f"{name},{way[0]},{way[1]}") for way in RUNS}
    for ranks in (None, 2):
        directory = runs / f"{name} on {ranks}"
        hpcq(ranks, "run", runs / f"{name}.toml", f"--set=run.directory='{directory}'")
        found[ranks] = summary(directory)
    assert len({one["digest"] for one in found.values()}) == 1, found
    assert [one["ranks"] for one in found.values()] == [*(ranks for ranks, _ in RUNS), 1, 2]
    checkpoints = [one["checkpoint"] for one in found.values()]
    assert hpcq(None, "verify", *checkpoints).stdout.count("whole") == len(set(checkpoints))


def test_what_bins_and_digests_lose_is_in_the_summary(tmp_path):
    for job in (JOBS["vector, floats and wrappers"], DIGESTED):
        file = make_job.write(tmp_path / "job.toml", job)
        done = hpcq(2, "run", file, "--overwrite", f"--set=run.directory='{tmp_path / 'run'}'")
        found = summary(tmp_path / "run")
        if found["collision_bound"] is not None:
            assert found["clipped"] == 0
            bound = found["states"] * (found["states"] - 1) / 2**65
            assert found["collision_bound"] == bound
            assert f"share a key is at most {bound:.1e}" in done.stdout
        else:
            assert found["clipped"] > 0
            assert f"{found['clipped']:,} numbers of observations" in done.stdout


def test_another_seed_is_another_table(tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["compiled"])
    digests = set()
    for seed in (1, 2):
        directory = tmp_path / str(seed)
        hpcq(None, "run", job, f"--set=run.seed={seed}", f"--set=run.directory='{directory}'")
        digests.add(summary(directory)["digest"])
    assert len(digests) == 2
