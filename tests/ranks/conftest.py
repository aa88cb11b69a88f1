import shutil
import tempfile
from pathlib import Path

import pytest
from mpi4py import MPI

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


def passed(request):
    """Return whether a test has passed here: else main.py ends all ranks, wherever they wait."""
    return not request.node.stash.get(_FAILED, False)


@pytest.fixture
def comm(request):
    yield MPI.COMM_WORLD
    if passed(request):
        MPI.COMM_WORLD.Barrier()


@pytest.fixture
def folder(request, comm):
    """One temporary folder that all ranks share."""
    name = tempfile.mkdtemp() if comm.rank == 0 else None
    path = Path(comm.bcast(name))
    yield path
    if passed(request):
        comm.Barrier()
        if comm.rank == 0:
            shutil.rmtree(path)


@pytest.fixture(params=["all", "half"])
def group(request, comm):
    """The world, or a part of it (with the others doing the same on their own)."""
    part = comm.Split(0 if request.param == "all" else comm.rank % 2, comm.rank)
    yield part
    if passed(request):
        part.Free()
