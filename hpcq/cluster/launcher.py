"""The launcher and MPI library of this process, by environment and memory maps. Needs no MPI."""

import os
from collections.abc import Mapping
from pathlib import Path

from hpcq.cluster.implementations import MPICH, OPEN_MPI, of_library
from hpcq.errors import DependencyError
from hpcq.run.processes import RANKS

# Of Open MPI's mpirun, of MPICH's and Intel's, of Slurm's srun (which mpirun may itself use).
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = (*RANKS, "SLURM_PROCID")
# How srun lets MPI join, with each of its PMIs (pmi2 sets PMI_SIZE; cray_shasta the others).
_JOINS = ("PMIX_RANK", "PMI_CONTROL_PORT", "PALS_APID")


def first_rank(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is rank 0 by the launcher's variables."""
    return next((environ[name] for name in _RANKS if name in environ), "0") == "0"


def launched(environ: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Return how many processes the launcher started, and the variable that says so; or 1, ""."""
    for name in _SIZES:
        if environ.get(name, "").isdecimal():
            return int(environ[name]), name
    return 1, ""


def unused_tasks(environ: Mapping[str, str] = os.environ) -> int:
    """Return the tasks that Slurm allocated if no launcher uses them; else 0."""
    tasks = environ.get("SLURM_NTASKS", "")
    return int(tasks) if tasks.isdecimal() and not launched(environ)[1] and int(tasks) > 1 else 0


def short_name(library: str) -> str:
    """Return name and version from an MPI library's version text, which may be long."""
    return " ".join(library.partition("\n")[0].partition(",")[0].strip("\0").split())


def mapped_mpi_libraries() -> list[Path]:
    """Return the files of MPI libraries in this process's memory."""
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].strip() for line in maps if "libmpi" in line}
    return sorted(map(Path, files))


def singletons(size: int, library: str) -> str:
    """Return an error text if MPI sees one rank but the launcher started several; else "".

    Parameters
    ----------
    size
        of the world's communicator.
    library
        name and version of the MPI library in use.
    """
    count, variable = launched()
    if size > 1 or count == 1:
        return ""
    return (
        f"{count} processes were started ({variable}={count}), but MPI joins none of them: each is "
        f"rank 0 of 1 and would train the whole job alone. The launcher does not belong to the "
        f"MPI library in use, {library}"
    )


def cannot_join(library: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether it is certain that MPI will not join the launcher's processes.

    Initialising MPI might then end the process with an obscure message.

    Parameters
    ----------
    library
        version text of the MPI library in use.
    """
    count, variable = launched(environ)
    if count == 1:
        return False
    found = of_library(library)
    if variable == "OMPI_COMM_WORLD_SIZE":
        return bool(found and found.of is not OPEN_MPI)
    if variable != "SLURM_STEP_NUM_TASKS":
        return False
    if not any(name in environ for name in _JOINS):
        # srun without --mpi.
        return True
    # MPICH says with what it was built; without PMIx it ends a process that has only that.
    speaks = not found or found.of is not MPICH or "pmix" in library.lower()
    return "PMIX_RANK" in environ and not speaks


REMEDY = (
    "start with what `hpcq launcher` prints, the launcher of that MPI (load its module), or "
    "rebuild mpi4py for the MPI of your launcher: "
    "pip install --force-reinstall --no-cache-dir --no-binary=mpi4py mpi4py"
)


def refuse_singletons(size: int, library: str) -> None:
    """Raise if there are N jobs of one rank instead of one job of N.

    Raises
    ------
    DependencyError
        saying how many were started, and what to do.
    """
    wrong = singletons(size, library)
    if wrong:
        raise DependencyError(f"{wrong}; {REMEDY}")
