"""A job that cannot succeed fails at once, once, with the reason at the end of its log."""

import make_job
from launch import HPCQ
from work import TRAIN

REASON = "== failed with exit code {}; not requeued. The reason:"


def failed(cluster, folder, *arguments):
    number = cluster.submit("--ntasks=2", "--time=5", TRAIN, *arguments, cwd=folder)
    cluster.finish(number, "FAILED")
    assert cluster.restarts(number) == 0
    log = (folder / f"hpcq-{number}.log").read_text()
    assert log.count("== start 1") == 1
    return cluster.job(number)["ExitCode"], log.splitlines()


def test_a_mistake_in_the_job_file(cluster, tmp_path):
    (tmp_path / "job.toml").write_text("[environment]\nid = 'Taxi-v4'\n[learning]\ngama = 0.9\n")
    code, log = failed(cluster, tmp_path, "job.toml")
    assert code == "64:0"
    reason = log.index(REASON.format(64))
    assert log[reason + 1].startswith("hpcq: job.toml: ")
    assert any("unknown key learning.gama; did you mean 'gamma'?" in line for line in log[reason:])
    assert not any(line.startswith("---") for line in log[reason:])


def test_no_job_file(cluster, tmp_path):
    code, log = failed(cluster, tmp_path)
    assert code == "64:0"
    assert log[-1] == "hpcq: no job file; usage: sbatch slurm/train.sbatch JOB.toml"


def test_an_environment_that_raises(cluster, tmp_path):
    job = make_job.make({"id": "problems:Broken-v0", "kwargs": {"how": "raise"}, "count": 4})
    make_job.write(tmp_path / "job.toml", job)
    code, log = failed(cluster, tmp_path, "job.toml")
    assert code == "70:0"
    reason = log.index(REASON.format(70))
    assert "step: raised" in log[reason + 1]
    assert log[-1] == "RuntimeError: the user's bug"


def test_a_stall_is_retried_so_often_requeued_and_retried_and_no_more(cluster, tmp_path):
    job = make_job.make(
        {"id": "problems:Broken-v0", "kwargs": {"how": "sleep"}, "count": 4},
        run={"stall_timeout": 3},
    )
    make_job.write(tmp_path / "job.toml", job)
    number = cluster.submit(
        "--ntasks=2", "--time=5", TRAIN, "job.toml", cwd=tmp_path, HPCQ_RETRIES="1"
    )
    cluster.finish(number, "FAILED")
    assert cluster.restarts(number) == 1
    assert cluster.job(number)["ExitCode"] == "76:0"
    log = (tmp_path / f"hpcq-{number}.log").read_text()
    assert log.count("retry 1 of 1: from the beginning") == 2
    assert log.count("== ended with exit code 76 in spite of 1 retries; requeueing") == 1
    assert "came to no exchange" in log[log.index(REASON.format(76)) :]
    assert not list(tmp_path.glob(".hpcq-*"))


def test_no_checkpoint_that_is_whole(cluster, tmp_path):
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    run = "--set=run.directory=run"
    number = cluster.submit("--ntasks=2", "--time=5", TRAIN, "job.toml", run, cwd=tmp_path)
    cluster.finish(number)
    for file in (tmp_path / "run").glob("*.h5"):
        file.write_bytes(b"not HDF5")
    code, log = failed(cluster, tmp_path, "job.toml", run)
    assert code == "65:0"
    assert "no checkpoint is whole" in log[log.index(REASON.format(65)) + 1]


def test_another_job_in_the_run_directory(cluster, tmp_path):
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    number = cluster.submit("--ntasks=1", "--time=5", TRAIN, "job.toml", cwd=tmp_path)
    cluster.finish(number)
    code, log = failed(cluster, tmp_path, "job.toml", "--set=learning.gamma=0.5")
    assert code == "64:0"
    assert "holds the run of another job (learning.gamma is 0.9 there and 0.5 here)" in log[-1]


def test_one_process_in_an_allocation_for_several(cluster, tmp_path):
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    number = cluster.submit(
        "--ntasks=3", "--output=log", f"--wrap={HPCQ} run job.toml && {HPCQ} doctor", cwd=tmp_path
    )
    cluster.finish(number)
    log = (tmp_path / "log").read_text()
    assert "hpcq: warning: Slurm has room for 3 tasks, but this is one process" in log
    assert "warning: Slurm has room for 3 tasks, but this is one process without a launcher" in log


def test_srun_that_does_not_speak_to_mpi(cluster, tmp_path):
    """The classic: N singletons. Refused once, explained once, and one rank's doctor is fine."""
    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    script = (
        f"srun -n2 {HPCQ} run job.toml; echo code $?; srun -n2 {HPCQ} doctor; "
        f"srun -n1 {HPCQ} doctor; echo code $?"
    )
    number = cluster.submit("--ntasks=2", "--output=log", f"--wrap={script}", cwd=tmp_path)
    cluster.finish(number)
    log = (tmp_path / "log").read_text()
    what = "2 processes were started (SLURM_STEP_NUM_TASKS=2), but MPI joins none of them"
    assert log.count(f"hpcq: {what}") == 1
    assert log.count(f"problem: {what}") == 1
    assert log.count("\ncode 69\n") == 1
    assert log.count("\ncode 0\n") == 1
    assert not (tmp_path / "runs").exists()
