import os
import signal
import subprocess

import pytest

from hpcq.cluster import mpirun, supervise
from hpcq.cluster.launcher import mapped_mpi_libraries
from hpcq.errors import JobError


def test_the_library_in_use_is_found():
    import mpi4py.MPI  # noqa: F401

    assert mapped_mpi_libraries()
    assert all(file.exists() for file in mapped_mpi_libraries())


def test_a_launcher_has_been_there(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OMPI_COMM_WORLD", "PMI", "SLURM_STEP")):
            monkeypatch.delenv(name)
    assert not supervise.is_rank()
    monkeypatch.setenv("PMI_SIZE", "3")
    assert not supervise.is_rank()
    with pytest.raises(JobError, match=r"-n 2: .* 3 processes .*PMI_SIZE=3"):
        mpirun.run_on_ranks(2, ["run", "x.toml"])
    monkeypatch.setenv("HPCQ_STARTED_BY", "1")
    assert supervise.is_rank()


def test_an_mpirun_that_does_not_notice_its_dead_ranks(monkeypatch, capfd):
    monkeypatch.setattr(supervise, "PATIENCE", 1)
    process = subprocess.Popen(["sh", "-c", "true & exec sleep 60"])
    assert supervise.Supervisor(1, []).wait(process) == -signal.SIGKILL
    assert "mpirun stays although its ranks ended" in capfd.readouterr().err


def test_an_mpirun_that_waits_for_a_rank_that_was_killed(monkeypatch, capfd):
    """The second rank, which cannot begin without the first, is ended, too."""
    monkeypatch.setattr(supervise, "PATIENCE", 1)
    ranks = {**os.environ, "HPCQ_STARTED_BY": "1", "PMI_SIZE": "2"}
    process = subprocess.Popen(["sh", "-c", "true & sleep 60 & exec sleep 60"], env=ranks)
    assert supervise.Supervisor(2, [], hydra=True).wait(process) == -signal.SIGKILL
    assert "mpirun and the others wait for it" in capfd.readouterr().err


def test_an_mpirun_with_ranks(monkeypatch):
    monkeypatch.setattr(supervise, "PATIENCE", 1)
    process = subprocess.Popen(["sh", "-c", "true & sleep 4 & exec sleep 3"])
    assert supervise.Supervisor(1, []).wait(process) == 0
