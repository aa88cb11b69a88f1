"""What the launcher has told this process, by its variables. Needs no MPI."""

import os
from collections.abc import Mapping

from hpcq.errors import DependencyError

# Of Open MPI's mpirun, of MPICH's and Intel's, of Slurm's srun (which mpirun may itself use).
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def first_rank(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process speaks for the job."""
    return next((environ[name] for name in _RANKS if name in environ), "0") == "0"


def launched(environ: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Return how many processes the launcher started, and the variable that says so; or 1, ""."""
    for name in _SIZES:
        if environ.get(name, "").isdecimal():
            return int(environ[name]), name
    return 1, ""


def unused_tasks(environ: Mapping[str, str] = os.environ) -> int:
    """Return for how many tasks Slurm has made room where no launcher uses it; else 0."""
    tasks = environ.get("SLURM_NTASKS", "")
    return int(tasks) if tasks.isdecimal() and not launched(environ)[1] and int(tasks) > 1 else 0


def short_name(library: str) -> str:
    """Return name and version from an MPI library's own text, which may be pages long."""
    return " ".join(library.partition("\n")[0].partition(",")[0].strip("\0").split())


def singletons(size: int, library: str) -> str:
    """Return what is wrong if this MPI sees one rank and the launcher started more; else "".

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
    """Return whether it is plain that MPI will not join what the launcher started.

    To start MPI might then end the process with a message that helps nobody.

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
    # srun that was not told how to speak to MPI.
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
