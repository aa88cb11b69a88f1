"""Collect the facts of every rank, or of this process alone if no launcher started it."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpcq.cluster.launcher import short_name
from hpcq.doctor.facts import Facts, core_share, launcher_version, loaded_mpi, probe_mpi, survey

if TYPE_CHECKING:
    from mpi4py import MPI


def examine_here(directory: Path) -> list[Facts]:
    """Return the facts of this process; MPI is loaded in another one."""
    facts = survey(directory)
    facts.launcher = launcher_version()
    probe_mpi(facts)
    facts.core = core_share()
    return [facts]


def examine_ranks(comm: "MPI.Intracomm", directory: Path) -> list[Facts]:
    """Return the facts of all ranks on rank 0, elsewhere an empty list. Collective."""
    from mpi4py import MPI

    facts = survey(directory)
    facts.rank, facts.size = comm.rank, comm.size
    facts.mpi = short_name(MPI.Get_library_version())
    facts.mpi_files = loaded_mpi()
    if comm.rank == 0:
        facts.launcher = launcher_version()
    facts.shared = _sees_file_of_root(comm, Path(facts.directory))
    comm.Barrier()
    now = time.time()
    facts.clock = now - comm.bcast(now)
    comm.Barrier()
    facts.core = core_share()
    return comm.gather(facts) or []


def _sees_file_of_root(comm: "MPI.Intracomm", directory: Path) -> bool:
    """Return whether this rank sees a file that rank 0 makes. Collective."""
    file = None
    if comm.rank == 0:
        try:
            file = tempfile.NamedTemporaryFile(dir=directory, prefix=".hpcq-doctor-")
        except OSError:
            pass  # reported as `directory_error`
    name = comm.bcast(file and file.name)
    seen = name is None or Path(name).exists()
    comm.Barrier()
    if file is not None:
        file.close()
    return seen
