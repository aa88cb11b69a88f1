"""Facts about the machine and the libraries of one process; checks.py judges them."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from hpcq.checkpoint import node_memory
from hpcq.cluster.launcher import mapped_mpi_libraries, short_name
from hpcq.cluster.launchers import version_text
from hpcq.envs.versions import below_bounds

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PACKAGES = ("hpcq", "numpy", "numba", "h5py", "mpi4py", "gymnasium")
PROBE_BYTES = 4 << 20
SHARE_SECONDS = 0.2
# What Open MPI, MPICH and Intel MPI put into shared memory.
SEGMENTS = ("*_segment.*", "mpich_shm_*", "Intel_MPI_*")


@dataclass
class Facts:
    """Facts of one rank."""

    rank: int = 0
    size: int = 1
    """of the communicator; 1 without MPI"""
    host: str = ""
    node: str = ""
    """Slurm's name of the node, else the host: simulated nodes share one host"""
    nodes: int = 1
    """in Slurm's allocation"""
    launcher: str = ""
    """what the mpirun on PATH says of its version"""
    mpi: str = ""
    """version of the MPI library"""
    mpi_error: str = ""
    mpi_files: list[str] = field(default_factory=list)
    """MPI libraries in this process's memory"""
    h5py_mpi: bool = False
    h5py_error: str = ""
    hdf5: tuple[int, ...] = ()
    locking: str = ""
    """HDF5_USE_FILE_LOCKING as set by the user"""
    versions: dict[str, str] = field(default_factory=dict)
    below: dict[str, tuple[str, str]] = field(default_factory=dict)
    """libraries older than hpcq needs: installed, least"""
    cpu: str = ""
    cpus: list[int] = field(default_factory=list)
    """on which this process may run"""
    threads: dict[str, str] = field(default_factory=dict)
    huge_pages: str = ""
    cache: str = ""
    cache_error: str = ""
    memory: int = 0
    """bytes available on the node, or in the control group if that is less"""
    leftovers: dict[str, int] = field(default_factory=dict)
    """shared memory of killed MPI jobs of this user: file and bytes"""
    in_memory: dict[str, tuple[str, int]] = field(default_factory=dict)
    """folders with checkpoints in memory of this user's runs: run directory and bytes"""
    directory: str = ""
    directory_error: str = ""
    disk: int = 0
    """bytes free"""
    filesystem: str = ""
    shared: bool = True
    """whether the directory is that of rank 0"""
    clock: float = 0.0
    """seconds ahead of rank 0, with the precision of a barrier"""
    disk_clock: float = 0.0
    """seconds that the file system's clock is ahead of this node's"""
    core: float = 1.0
    """part of a core that this rank got while all ranks worked at once"""


def survey(directory: Path) -> Facts:
    """Return the facts of this process that need no MPI. Imports h5py."""
    host = socket.gethostname()
    # Before the import of checkpoint.h5, which sets it.
    locking = os.environ.get("HDF5_USE_FILE_LOCKING", "")
    facts = Facts(
        host=host,
        node=os.environ.get("SLURMD_NODENAME", host),
        nodes=int(os.environ.get("SLURM_JOB_NUM_NODES", "1")),
        locking=locking,
        versions=dict(_versions()),
        below=below_bounds(),
        cpu=_cpu(),
        cpus=sorted(os.sched_getaffinity(0)),
        threads={name: os.environ[name] for name in THREADS if name in os.environ},
        huge_pages=_huge_pages(),
        memory=_memory(),
        leftovers=_leftovers(),
        in_memory=_in_memory(),
    )
    _probe_h5py(facts)
    _probe_cache(facts)
    _probe_directory(facts, directory)
    return facts


def core_share(seconds: float = SHARE_SECONDS) -> float:
    """Return the part of a core that this thread gets while it works for so many seconds."""
    began, worked = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < seconds:
        pass
    return (time.thread_time() - worked) / (time.perf_counter() - began)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", ".".join(map(str, sys.version_info[:3]))
    for name in PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "missing"


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else ""


def _in_memory() -> dict[str, tuple[str, int]]:
    """Remove checkpoints in memory that no run can go on from; return the folders of the others."""
    node_memory.remove_orphans()
    return {
        str(folder): (str(node_memory.run_of(folder) or "RUN_DIR"), node_memory.nbytes(folder))
        for folder in node_memory.folders()
    }


def _leftovers() -> dict[str, int]:
    """Return MPI's segments of this user that no process maps: their ranks were killed."""
    found = {}
    for path in (path for names in SEGMENTS for path in Path("/dev/shm").glob(names)):
        with contextlib.suppress(OSError):
            status = path.stat()
            if status.st_uid == os.getuid():
                found[str(path)] = status.st_blocks * 512
    for maps in Path("/proc").glob("[0-9]*/maps") if found else ():
        with contextlib.suppress(OSError):
            for used in re.findall(r"/dev/shm/\S+", maps.read_text()):
                found.pop(used, None)
    return found


def _huge_pages() -> str:
    found = re.search(r"\[(\w+)\]", _read("/sys/kernel/mm/transparent_hugepage/enabled"))
    return found[1] if found else ""


def _memory() -> int:
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    free = int(found[1]) * 1024 if found else 0
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, limit, used = Path("/sys/fs/cgroup" + path), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            folder = Path("/sys/fs/cgroup/memory" + path)
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # A group's limit also holds for those within it.
        for group in (folder, *folder.parents[:-3]):
            bound, taken = _read(group / limit).strip(), _read(group / used).strip()
            if bound.isdecimal() and taken.isdecimal():
                free = min(free, max(int(bound) - int(taken), 0))
    return free


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _probe_h5py(facts: Facts) -> None:
    try:
        from hpcq.checkpoint.h5 import HAS_MPI, h5py

        facts.h5py_mpi, facts.hdf5 = HAS_MPI, h5py.version.hdf5_version_tuple
    except Exception as error:  # a broken library may raise anything
        facts.h5py_error = f"{type(error).__name__}: {error}"


def _probe_cache(facts: Facts) -> None:
    from hpcq.jit.cache import wanted

    facts.cache = str(wanted())
    try:
        wanted().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted()):
            pass
    except OSError as error:
        facts.cache_error = error.strerror or str(error)


def _probe_directory(facts: Facts, directory: Path) -> None:
    """Write, flush and remove a file there: only this detects a full or read-only disk."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.absolute().parent
    facts.directory, facts.filesystem = str(directory), _filesystem(directory)
    try:
        facts.disk = shutil.disk_usage(directory).free
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".hpcq-doctor-") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            facts.disk_clock = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError as error:
        facts.directory_error = error.strerror or str(error)


def _filesystem(directory: Path) -> str:
    """Return the type of the file system, by the longest mount point above the directory."""
    best, kind = "", ""
    for line in _read("/proc/self/mounts").splitlines():
        _, point, found = line.split()[:3]
        if directory.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind


def launcher_version() -> str:
    """Return what ``mpirun --version`` says; "" without mpirun."""
    return version_text("mpirun") if shutil.which("mpirun") else ""


def loaded_mpi() -> list[str]:
    """Return the MPI libraries that this process has loaded."""
    return [str(path) for path in mapped_mpi_libraries() if re.match(r"libmpi(ch)?\.so", path.name)]


MPI_PROBE = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version())
"""


def probe_mpi(facts: Facts) -> None:
    """Load MPI in another process: a broken one may end the process that loads it."""
    done = subprocess.run(
        # -P: the working folder must not be in the import path.
        [sys.executable, "-P", "-c", MPI_PROBE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        facts.mpi = short_name(done.stdout)
    else:
        lines = done.stderr.strip().splitlines()
        facts.mpi_error = lines[-1] if lines else f"exit code {done.returncode}"
