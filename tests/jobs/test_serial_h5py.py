"""What an h5py without MPI changes: the environment's own, or one from PyPI put before it."""

import os

import make_job
import pytest
from launch import hpcq, summary

from hpcq.checkpoint.h5 import HAS_MPI


@pytest.fixture
def serial(request):
    """Return the environment variables of a command with an h5py without MPI."""
    if not HAS_MPI:
        return {}
    packages = next(request.getfixturevalue("other_packages")("h5py").glob("*/site-packages"))
    return {"PYTHONPATH": os.pathsep.join([str(packages), os.environ["PYTHONPATH"]])}


def test_mpio_is_refused_with_the_remedy(tmp_path, serial):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    directory = f"--set=run.directory='{tmp_path / 'run'}'"
    done = hpcq(2, "run", job, directory, "--set=checkpoint.writer=mpio", code=69, env=serial)
    assert "h5py was built without MPI" in done.stderr
    assert "checkpoint.writer = 'direct' or 'gather'" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("asked", "used"), [("auto", "direct"), ("gather", "gather")])
def test_the_others_need_no_mpi(tmp_path, serial, asked, used):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    writer = f"--set=checkpoint.writer={asked}"
    done = hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", writer, env=serial)
    assert f"checkpoints by {used}" in done.stdout
    hpcq(None, "verify", summary(tmp_path / "run")["checkpoint"], env=serial)
