"""Start a command on several ranks of this machine, or of a Slurm allocation: ``hpcq run -n 2``."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcq.cluster import allocation, launchers
from hpcq.cluster.implementations import OPEN_MPI
from hpcq.cluster.launcher import launched
from hpcq.cluster.relay import Relay
from hpcq.cluster.supervise import Supervisor, adopt_orphans, signal_at_parent_death
from hpcq.errors import INTERRUPTED, ExitCode, JobError
from hpcq.run.processes import ENDED_AT, STARTED_BY
from hpcq.run.signals import stop_signals, wanted

if TYPE_CHECKING:
    from hpcq.cluster.relaunch import Retries

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
# The same under srun. That ends with the highest code, which is that of ranks it has ended, and it
# ends the others when the first has left with 75, saved: so the first rank to fail or stop leaves
# its code in a note, and who has saved leaves with 0. The shell itself says nothing.
_NOTE_CODE = (
    "bash",
    "-c",
    """
trap '' USR1
note=$1
shift
exec 3>&2 2>/dev/null
"$@" 2>&3 3>&-
code=$?
[ $code = 0 ] ||
    (set -C; echo "$code rank $SLURM_PROCID on $SLURMD_NODENAME" >"$note")
[ $code != 75 ] || code=0
exit $code
""",
    "hpcq",
)


def hpcq_command(arguments: Sequence[str]) -> list[str]:
    """Return the words that start this hpcq with arguments, from any working folder."""
    return [sys.executable, "-P", "-c", _RANK, str(Path(__file__).parents[2]), *arguments]


def run_on_ranks(ranks: int, arguments: Sequence[str], retries: "Retries | None" = None) -> int:
    """Run ``hpcq ARGUMENTS`` on `ranks` ranks to the end, and return mpirun's exit code.

    At the first Ctrl-C, TERM, HUP or USR1 the ranks save the run and stop; a second Ctrl-C kills
    them. QUIT ends them with their stacks.

    Parameters
    ----------
    retries
        for a run that goes on where it was when its ranks have died; None: it is over then.

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
    place = allocation.here()
    launcher = launchers.of_batch_job() if place else launchers.find()
    with stop_signals() as pending_signals:
        supervisor = Supervisor(
            ranks, pending_signals, launcher.of.hydra, place is not None, launcher.is_srun
        )
        numbers = [*wanted(), signal.SIGQUIT]
        before = [signal.signal(number, supervisor.forward) for number in numbers]
        # Before orphans are adopted: its processes are nobody's children.
        relay = Relay()
        adopt_orphans()

        def start(words: Sequence[str], ended: float) -> int:
            nonlocal place
            if place and ended and (lost := place.lost()):
                place = place.without(lost)
                supervisor.ranks = min(ranks, place.ranks)
                why = "; ".join(f"node {node} {reason}" for node, reason in lost.items())
                relay.say(f"{why}: going on without, with {supervisor.ranks} ranks")
            one = _Start(launcher, supervisor.ranks, place, ended)
            return one.run(words, supervisor, relay)

        try:
            if retries is None:
                return start(arguments, 0.0)
            return retries.run(start, arguments, supervisor.signals, relay.say)
        finally:
            relay.finish()
            for number, old in zip(numbers, before, strict=True):
                signal.signal(number, old)


@dataclass(frozen=True)
class _Start:
    """One start of all ranks."""

    launcher: launchers.Launcher
    ranks: int
    place: allocation.Allocation | None
    """the nodes that there are; None outside of an allocation"""
    ended: float
    """when the ranks before these ended; 0: there were none"""

    def run(self, words: Sequence[str], supervisor: Supervisor, relay: Relay) -> int:
        """Run the launcher to its end; return its exit code, and say what a signal has ended."""
        note = Path(f".hpcq-{os.environ.get('SLURM_JOB_ID')}.code").absolute()
        if self.launcher.is_srun:
            note.unlink(missing_ok=True)
        process = subprocess.Popen(
            self._command(words, note),
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=relay.stdout,
            stderr=relay.stderr,
            # Out of the terminal's process group: Ctrl-C is for this process alone.
            process_group=0,
            preexec_fn=signal_at_parent_death,
        )
        code, died = supervisor.wait(process), supervisor.died
        if code < 0:
            died = f"{Path(self.launcher.path).name} on {socket.gethostname()}"
        if self.launcher.is_srun:
            code, died = _noted(note, code)
        elif self.launcher.of.hydra:
            code = _as_shells_have_it(code)
        code = code if code >= 0 else 128 - code
        if signal.SIGQUIT in supervisor.signals:
            # Open MPI can crash when it is told twice.
            return 128 + signal.SIGQUIT
        if supervisor.killed and code not in (ExitCode.DONE, ExitCode.STOPPED):
            relay.say("interrupted; a run can go on from its newest checkpoint")
            return INTERRUPTED
        if self.place and supervisor.signals and code == 128 + signal.SIGUSR1:
            # The request came so early that it ended the launcher: nothing was lost.
            return ExitCode.STOPPED
        if code - 128 in signal.valid_signals():
            relay.say(f"{died or 'a rank'} was ended by signal {code - 128}")
        return code

    def _command(self, words: Sequence[str], note: Path) -> list[str]:
        """Return the words that start ranks of hpcq with these arguments."""
        launcher = [self.launcher.path, *self.launcher.options, "-n", str(self.ranks)]
        if not self.launcher.is_srun:
            return [*launcher, *_IGNORE_USR1, *hpcq_command(words)]
        if self.place and self.ended:
            nodes = self.place.tasks
            launcher += ["-N", str(len(nodes)), f"--nodelist={','.join(nodes)}"]
        # Without -K1 the loss of one rank would leave the others waiting.
        return [*launcher, "-K1", *_NOTE_CODE, str(note), *hpcq_command(words)]

    def _variables(self) -> dict[str, str]:
        """Return the environment of the launcher; what the user has set counts more than ours."""
        of, place = self.launcher.of, self.place
        settings = {**of.settings}
        if place is None or self.ranks < place.ranks:
            settings |= of.shared
        if of is OPEN_MPI and (place is None or len(place.tasks) == 1):
            settings |= _session_folder()
        ours = {STARTED_BY: f"{os.getpid()}@{socket.gethostname()}"}
        if self.ended:
            ours |= {ENDED_AT: str(self.ended), **(place.variables() if place else {})}
        return {**settings, **os.environ, **ours}


def _noted(note: Path, code: int) -> tuple[int, str]:
    """Return the exit code of the first rank to fail, and which it is; else `code`, and ""."""
    try:
        first, _, who = note.read_text().strip().partition(" ")
        note.unlink()
    except OSError:
        return code, ""
    return (int(first), who) if first.isdecimal() else (code, "")


def _as_shells_have_it(code: int) -> int:
    """Return Hydra's exit code, where a signal has ended a rank, as 128 + signal.

    Hydra ends with the number of the signal; hpcq itself with none between 1 and 64.
    """
    return 128 + code if 1 < code < 32 else code


def _session_folder() -> dict[str, str]:
    """Return the setting that gives this mpirun a session folder of its own.

    Open MPI 4 has one for all jobs of a user; a job that ends removes it while another starts.
    """
    # With the uid: a folder that a killed mpirun leaves must not block another user.
    name = f"ompi.{os.getuid()}.{os.getpid()}"
    return {"OMPI_MCA_orte_top_session_dir": f"{tempfile.gettempdir()}/{name}"}
