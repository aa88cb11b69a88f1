import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# `tests/run all` makes them.
ENVIRONMENTS = {"MPICH": ROOT / ".venv-mpich", "Intel MPI": ROOT / ".venv-intel"}


@pytest.fixture(params=list(ENVIRONMENTS))
def mpi(request, monkeypatch):
    """The folder with the programs of an environment that has this MPI; it is not activated."""
    programs = ENVIRONMENTS[request.param] / "bin"
    if not (programs / "mpiexec.hydra").exists():
        pytest.skip(f"no {request.param} in {programs.parent}: `tests/run all` makes it")
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PRTE_", "PMIX_")):
            monkeypatch.delenv(name)
    return programs
