"""Sweeps as job arrays, and `hpcq submit`, on a real Slurm."""

import subprocess

import make_job
import pytest
import readme
from launch import HPCQ, summary
from work import ROOT

from hpcq.job.job import Job

LISTS = "[sweep]\nlearning.learning_rate = [0.1, 0.5]\nrun.seed = [1, 2, 3]\n\n"


@pytest.fixture
def hpcq(cluster, tmp_path):
    """Return a function that runs hpcq as on a login node of the cluster."""

    def run(*arguments, code=0, **variables):
        done = subprocess.run(
            [HPCQ, *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=120,
            cwd=tmp_path, env={**cluster.environment, **variables},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def finished(cluster, number, tasks):
    """Wait for an array, and check that every task did its work at once."""
    cluster.wait(lambda: not cluster("squeue", "-h", "-j", number), f"array {number}", 400)
    for task in range(tasks):
        cluster.finish(f"{number}_{task}")


def test_a_sweep_of_six_jobs_one_of_them_requeued(cluster, hpcq, tmp_path):
    job = make_job.make({"id": "slowly:Slow-v0", "count": 4, "reset_every": 50})
    file = make_job.write(tmp_path / "lake.toml", job)
    file.write_text(LISTS + file.read_text().replace("steps = 1000", "steps = 2000"))
    assert hpcq("sweep", "list", file).stdout.count("not started") == 6
    hpcq("sweep", "collect", file, code=73)

    mark = tmp_path / "slowly"
    mark.touch()
    done = hpcq("submit", "lake.toml", "--ntasks=2", "--time=5", HPCQ_TEST_SLOWLY=str(mark))
    number = done.stdout.split("submitted as ")[1].partition(";")[0]
    log = tmp_path / f"hpcq-{number}-4.log"
    cluster.wait(lambda: log.exists() and "run directory" in log.read_text(), "task 4 to run", 300)
    cluster("scancel", "--batch", "--signal=USR1", f"{number}_4")
    cluster.wait(lambda: cluster.restarts(f"{number}_4") == 1, "the requeue", 300)
    mark.unlink()
    finished(cluster, number, 6)
    assert "resuming" in log.read_text()

    text = hpcq("sweep", "collect", file).stdout
    assert "6 of 6 runs done" in text
    table = (tmp_path / "runs" / "lake" / "sweep.csv").read_text().splitlines()
    assert table[0] == "learning.learning_rate,runs,training_return,low,high"
    assert sorted(line.split(",")[:2] for line in table[1:]) == [["0.1", "3"], ["0.5", "3"]]
    # The member that was requeued learned what it learns undisturbed.
    hpcq("run", "lake.toml", "--member=4", "--set=run.directory=again")
    again = summary(tmp_path / "again" / "004")["digest"]
    assert summary(tmp_path / "runs" / "lake" / "004")["digest"] == again
    best = Job.load(tmp_path / "runs" / "lake" / "best.toml")
    assert str(best.learning.learning_rate.value) == table[1].split(",")[0]


def test_the_sweep_script_itself(cluster, tmp_path):
    file = make_job.write(tmp_path / "lake.toml", make_job.make(make_job.GARNET))
    file.write_text(LISTS + file.read_text())
    number = cluster.submit(
        "--array=0-1", "--time=5", ROOT / "slurm" / "sweep.sbatch", "lake.toml",
        cwd=tmp_path, HPCQ_SLURM=str(ROOT / "slurm"),
    )  # fmt: skip
    finished(cluster, number, 2)
    assert summary(tmp_path / "runs" / "lake" / "001")["ranks"] == 2


def test_submit_one_job(cluster, hpcq, tmp_path):
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    done = hpcq("submit", "job.toml", "--ntasks=3", "--time=5", "--set=run.steps=5000")
    assert "#SBATCH --ntasks=3\n" in done.stdout
    number = done.stdout.split("submitted as ")[1].partition(";")[0]
    cluster.finish(number)
    assert summary(tmp_path / "runs" / "job")["ranks"] == 3
    refused = hpcq("submit", "job.toml", "--partition=nowhere", code=64)
    assert "hpcq: sbatch refused: " in refused.stderr
    assert "invalid partition specified: nowhere" in refused.stderr
    assert "no sbatch on PATH" in hpcq("submit", "job.toml", code=69, PATH="/none").stderr


def test_scaling_on_one_and_two_ranks(cluster, tmp_path):
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    # The line of slurm/README.md, but for its number of ranks and its job.
    (line,) = (line for line in readme.inline(readme.SLURM) if "scaling.sbatch" in line)
    line = line.replace("--ntasks=64", "--ntasks=2 --time=5").replace("jobs/taxi.toml", "job.toml")
    words = line.replace("slurm/", f"{ROOT}/slurm/").split()[1:]
    number = cluster.submit(*words, cwd=tmp_path, HPCQ_REPEAT="1")
    cluster.finish(number)
    log = (tmp_path / f"hpcq-{number}.log").read_text()
    assert "all strong runs end in one digest" in log
    table = (tmp_path / "runs" / "job-scaling" / "scaling.csv").read_text().splitlines()
    kinds = [line.split(",")[:2] for line in table[1:]]
    assert kinds == [[kind, ranks] for kind in ("strong", "weak") for ranks in "12"]
    assert (tmp_path / "runs" / "job-scaling" / "scaling.png").exists()
