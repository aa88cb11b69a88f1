"""`hpcq run --resume`: the one command that a batch script gives at every start."""

import make_job
from launch import hpcq, summary

JOB = make_job.make(make_job.GARNET, run={"steps": 6000})


def test_begins_goes_on_and_extends(tmp_path):
    file = make_job.write(tmp_path / "job.toml", JOB)
    arguments = ("run", file, "--resume", f"--set=run.directory='{tmp_path / 'run'}'")
    begun = hpcq(2, *arguments, "--set=run.steps=3000")
    assert "resuming" not in begun.stdout
    extended = hpcq(1, *arguments)
    assert "resuming" in extended.stdout
    digest = summary(tmp_path / "run")["digest"]
    again = hpcq(2, *arguments)
    assert f"digest {digest}" in again.stdout

    hpcq(2, "run", file, f"--set=run.directory='{tmp_path / 'whole'}'")
    assert summary(tmp_path / "whole")["digest"] == digest


def test_refuses_what_is_not_its_own(tmp_path):
    file = make_job.write(tmp_path / "job.toml", JOB)
    arguments = ("run", file, "--resume", f"--set=run.directory='{tmp_path / 'run'}'")
    hpcq(1, *arguments)
    done = hpcq(2, *arguments, "--set=learning.gamma=0.5", code=64)
    assert "holds the run of another job (learning.gamma is 0.9 there and 0.5 here)" in done.stderr
    hpcq(None, *arguments, "--overwrite", code=64)


def test_what_checkpoints_do_follows_the_job_file(tmp_path):
    file = make_job.write(tmp_path / "job.toml", JOB)
    directory = tmp_path / "run"
    arguments = ("run", file, "--resume", f"--set=run.directory='{directory}'")
    hpcq(1, *arguments, "--set=checkpoint.every=50", "--set=run.steps=3000")
    assert len(list(directory.glob("ckpt-*.h5"))) == 3
    hpcq(1, *arguments, "--set=checkpoint.keep=1")
    assert len(list(directory.glob("ckpt-*.h5"))) == 1
