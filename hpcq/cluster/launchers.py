"""The launcher that belongs to the MPI library in use: beside the library, or on PATH."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcq.cluster.implementations import (
    OPEN_MPI,
    Implementation,
    Version,
    of_launcher,
    of_library,
    pmi_of,
)
from hpcq.cluster.launch import load_mpi
from hpcq.cluster.launcher import mapped_mpi_libraries, short_name
from hpcq.errors import DependencyError

# "mpirun" or "srun": what `words` prints, whatever else there is.
CHOICE = "HPCQ_LAUNCHER"
# What srun speaks to the ranks, where that of the library is not what the site has.
PMI = "HPCQ_SRUN_MPI"


@dataclass(frozen=True)
class Launcher:
    """A program that starts ranks."""

    path: str
    of: Implementation
    """the MPI of the ranks"""
    options: tuple[str, ...] = ()

    @property
    def is_srun(self) -> bool:
        """Whether Slurm itself starts the ranks; else it is the MPI's own launcher."""
        return self.path == "srun"


def version_text(program: str) -> str:
    """Return what a launcher prints for ``--version``; "" if it cannot be asked."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip()


def find() -> Launcher:
    """Return the launcher of the MPI library that mpi4py loads.

    One that does not say whose it is, such as a site's own script, is taken for the right one.

    Raises
    ------
    DependencyError
        if there is none, or only those of other MPIs.
    """
    library = of_library(load_mpi().Get_library_version())
    # Others are relatives of Open MPI.
    implementation = library.of if library else OPEN_MPI
    wrong = []
    for path in _candidates(implementation.programs):
        version = of_launcher(version_text(path))
        if not version or not library or library.fits(version):
            return Launcher(path, implementation)
        wrong.append((path, version))
    if library and wrong:
        raise DependencyError(_mismatch(library, *wrong[0]))
    raise DependencyError(
        f"no mpirun found, neither beside the MPI library in use ({_name()}) nor on PATH; "
        f"install one (pip install {implementation.package}, or your system's package), or leave "
        "out -n"
    )


def _name() -> str:
    return short_name(load_mpi().Get_library_version())


def _candidates(programs: tuple[str, ...]) -> Iterator[str]:
    """Yield launchers that are there, those beside the library first."""
    for library in mapped_mpi_libraries():
        for folder in library.parents[:-1]:
            for name in programs:
                if os.access(folder / "bin" / name, os.X_OK):
                    yield str(folder / "bin" / name)
    yield from filter(None, map(shutil.which, programs))


def _mismatch(library: Version, path: str, launcher: Version) -> str:
    files = ", ".join(map(str, mapped_mpi_libraries()))
    remove = "" if launcher.of is library.of else f"pip uninstall {launcher.of.package}; "
    return (
        f"two MPIs: the launcher {path} is of {launcher}, but mpi4py loads {library} ({files}), so "
        "each rank would be alone; load the module of one MPI, or keep one in this environment "
        f"({remove}pip install --force-reinstall {library.of.package}), or choose the library: "
        "export MPI4PY_LIBMPI=FILE"
    )


def words(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the words that start ranks in a batch job; see `of_batch_job`."""
    found = of_batch_job(environ)
    return [found.path, *found.options]


def of_batch_job(environ: Mapping[str, str] = os.environ) -> Launcher:
    """Return what starts ranks on whatever a batch job has.

    The MPI's own launcher, which knows the allocation, or else srun with the PMI of the library.
    $HPCQ_LAUNCHER (mpirun, srun) and $HPCQ_SRUN_MPI decide otherwise.

    Raises
    ------
    DependencyError
        if there is neither.
    """
    choice = environ.get(CHOICE, "")
    if choice not in ("", "mpirun", "srun"):
        raise DependencyError(f"{CHOICE}={choice}: expected mpirun or srun")
    if choice != "srun":
        try:
            return find()
        except DependencyError:
            if choice or shutil.which("srun") is None:
                raise
    version = load_mpi().Get_library_version()
    pmi = environ.get(PMI) or pmi_of(version)
    spoken = _spoken()
    if pmi not in spoken:
        raise DependencyError(
            f"srun does not speak {pmi}, which {_name()} needs (srun --mpi=list: "
            f"{', '.join(spoken) or 'nothing'}); load the module of your MPI, which has an mpirun, "
            f"or export {PMI}= what your site's documentation says"
        )
    library = of_library(version)
    return Launcher("srun", library.of if library else OPEN_MPI, (f"--mpi={pmi}",))


def _spoken() -> list[str]:
    """Return the PMIs that this srun has."""
    try:
        done = subprocess.run(
            ["srun", "--mpi=list"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    # One a line, indented, after a heading.
    lines = (done.stdout + done.stderr).splitlines()
    return [line.strip() for line in lines if line[:1].isspace()]
