import shutil
import tempfile
from pathlib import Path

import pytest
from mpi4py import MPI


@pytest.fixture
def comm():
    yield MPI.COMM_WORLD
    MPI.COMM_WORLD.Barrier()


@pytest.fixture
def folder(comm):
    """One temporary folder that all ranks share."""
    name = tempfile.mkdtemp() if comm.rank == 0 else None
    path = Path(comm.bcast(name))
    yield path
    comm.Barrier()
    if comm.rank == 0:
        shutil.rmtree(path)


@pytest.fixture(params=["all", "half"])
def group(request, comm):
    """The world, or a part of it (with the others doing the same on their own)."""
    part = comm.Split(0 if request.param == "all" else comm.rank % 2, comm.rank)
    yield part
    part.Free()
