"""The launcher and MPI library of this process, by environment and memory maps. Needs no MPI."""

import os
from collections.abc import Mapping
from pathlib import Path

from hpcq.errors import DependencyError

# Of Open MPI's mpirun, of MPICH's and Intel's, of Slurm's srun (which mpirun may itself use).
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


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
        name and version of the MPI library in use.
    """
    count, variable = launched(environ)
    if count == 1:
        return False
    if variable == "OMPI_COMM_WORLD_SIZE":
        return any(name in library for name in ("MPICH", "MVAPICH", "Intel"))
    # srun without --mpi.
    return variable == "SLURM_STEP_NUM_TASKS" and "PMIX_RANK" not in environ


REMEDY = (
    "start with the mpirun of that MPI (load its module), with `srun --mpi=pmix`, or rebuild "
    "mpi4py for the MPI of your launcher: "
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
