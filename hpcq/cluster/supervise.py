"""Watch an mpirun from outside: pass on signals, end it where it would stay for ever."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from types import FrameType

from hpcq.cluster.deaths import Deaths
from hpcq.cluster.launcher import launched
from hpcq.errors import ExitCode
from hpcq.run import leftovers, processes, start_limit
from hpcq.run.stderr import say

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

# Seconds that mpirun has to notice that all its ranks are dead, and to end those of a failed start.
PATIENCE = 10
# Seconds after which what the dead ranks left behind is ended.
BEHIND = 2
# Seconds between two signals that must not become one.
_APART = 0.1


def is_rank(variables: dict[str, str] | os._Environ = os.environ) -> bool:
    """Return whether `hpcq run -n` has started the process that has these variables."""
    return processes.STARTED_BY in variables and bool(launched(variables)[1])


def adopt_orphans() -> None:
    """Become the parent of what dead ranks leave behind; otherwise nobody could find it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_at_parent_death() -> None:
    """Have the system send USR1 to this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1))


def has_dead_ranks_only(pid: int) -> bool:
    """Return whether a process has children, and all of them are zombies."""
    found = processes.children(pid)
    return bool(found) and not any(map(processes.is_alive, found))


class Supervisor:
    """Waits for an mpirun.

    The first Ctrl-C, TERM, HUP or USR1 has the ranks save and stop; a second Ctrl-C kills them;
    QUIT ends them with their stacks. Signals are passed on every second: a rank may have been too
    new for the first time.

    Parameters
    ----------
    ranks
        how many it starts.
    signals
        that have come before.
    hydra
        the launcher passes TERM on to the ranks, which would save; another one ends them.
    remote
        the ranks may be children of others than the launcher, which then passes signals on.
    srun
        the launcher is srun, which two INTs end.
    """

    def __init__(
        self,
        ranks: int,
        signals: list[int],
        hydra: bool = False,
        remote: bool = False,
        srun: bool = False,
    ) -> None:
        self.ranks, self.signals, self._hydra = ranks, list(signals), hydra
        self._remote, self._srun = remote, srun
        self._process: subprocess.Popen | None = None
        self.died = ""
        """which rank of the last mpirun ended first; empty where that is not known"""

    @property
    def killed(self) -> bool:
        """Whether the ranks were asked to end at once."""
        return self.signals.count(signal.SIGINT) > 1

    def forward(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal to this process."""
        self.signals.append(number)
        # A storm of signals must not pile up: what follows the first waits for the next second.
        if len(self.signals) == 1 or number == signal.SIGQUIT or self.killed:
            self._pass_on()

    def wait(self, process: subprocess.Popen) -> int:
        """Wait until mpirun has ended; return its exit code. May be called for one after another.

        A rank that is killed just when it joins mpirun makes PMIx (up to version 6) free a record
        twice; mpirun then often waits for ever for a lock. Intel's then waits for that rank.
        """
        self._begin(process)
        try:
            code = self._wait(process)
        finally:
            if self._remote:
                self._end_sruns()
            self._wait_for_killed()
            self._process, self.died = None, self._deaths.first
            self._deaths.close()
        return ExitCode.STALLED if self._late else code

    def _begin(self, process: subprocess.Popen) -> None:
        self._process, self._deaths = process, Deaths()
        self._deaths.watch(process.pid, "")
        self._begun: set[int] = set()
        """ranks whose watchdogs have begun"""
        self._had_ranks = self._had_living_ranks = self._late = False
        self._quit_for = self._lost_for = 0

    def _wait(self, process: subprocess.Popen) -> int:
        self._pass_on()
        started, looked, dead_for = time.monotonic(), time.monotonic(), 0
        while True:
            self._deaths.wait(process, max(0.0, looked + 1 - time.monotonic()))
            code = process.poll()
            if code is not None:
                return code
            if time.monotonic() < looked + 1:
                continue
            looked = time.monotonic()
            dead_for = dead_for + 1 if self._ranks_are_dead() else 0
            self._pass_on()
            self._reap()
            if dead_for == BEHIND:
                self._end_leftovers()
            if dead_for == PATIENCE:
                say(f"mpirun stays although its ranks ended {PATIENCE} s ago; ending it")
                process.kill()
            if len(self._begun) < self.ranks:
                self._watch_start(time.monotonic() - started > start_limit.seconds())

    def _pass_on(self) -> None:
        """Have the ranks do what the signals so far ask for."""
        if self._process is None or not self.signals:
            return
        if signal.SIGQUIT in self.signals:
            self._quit_for += 1
            self._signal_ranks(signal.SIGQUIT)
            if self._quit_for > BEHIND:
                self._end_ranks()
        elif self.killed:
            self._end_ranks()
        else:
            self._signal_ranks(signal.SIGUSR1)

    def _end_ranks(self) -> None:
        """Have mpirun end its ranks, or kill them, so that it ends."""
        assert self._process is not None
        if self._srun:
            for _ in range(2):
                self._process.send_signal(signal.SIGINT)
                time.sleep(_APART)
            return
        if not self._hydra:
            self._process.send_signal(signal.SIGTERM)
            return
        _kill(self._live_ranks())

    def _signal_ranks(self, number: int) -> None:
        """Send a signal to the ranks that will not die of it.

        Not through mpirun, if they are here: it would pass the signal on to a rank that does not
        ignore it yet.
        """
        assert self._process is not None
        live = self._live_ranks()
        if self._remote and not live:
            self._process.send_signal(number)
        for rank in live:
            if number == signal.SIGQUIT or processes.handles(rank, number, ignored=True):
                processes.send(rank, number)

    def _live_ranks(self) -> list[int]:
        """Return the ranks that have not ended; they may be children of mpirun's children."""
        assert self._process is not None
        found = processes.descendants(self._process.pid)
        # The children that a rank has itself have its variables, too.
        below = {pid: is_rank(processes.environ(pid)) for pid in found if processes.is_alive(pid)}
        inner = {child for pid, rank in below.items() if rank for child in processes.children(pid)}
        return [pid for pid, rank in below.items() if rank and pid not in inner]

    def _ranks_are_dead(self) -> bool:
        """Return whether mpirun has, or had, ranks, and none of them is alive.

        They are its children or, with Hydra, those of a child.
        """
        assert self._process is not None
        found, live = processes.children(self._process.pid), self._live_ranks()
        for pid in live:
            name = f"rank {processes.rank_of(pid)} (process {pid}) on {socket.gethostname()}"
            self._deaths.watch(pid, name)
        living = bool(live)
        self._had_ranks = self._had_ranks or bool(found)
        self._had_living_ranks = self._had_living_ranks or living
        if self._had_living_ranks:
            return not living
        return self._had_ranks and not any(map(processes.is_alive, found))

    def _reap(self) -> None:
        """Wait for the orphans that have ended."""
        for pid in self._orphans():
            if not processes.is_alive(pid):
                os.waitpid(pid, os.WNOHANG)

    def _orphans(self) -> list[int]:
        assert self._process is not None
        return [pid for pid in processes.children(os.getpid()) if pid != self._process.pid]

    def _wait_for_killed(self) -> None:
        """Wait for the ranks that the launcher has killed, and not waited for: they free memory."""
        deadline = time.monotonic() + PATIENCE
        while any(map(_is_going, self._orphans())) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._reap()

    def _end_leftovers(self) -> None:
        """End what the dead ranks left behind: it may hold the pipe that mpirun reads."""
        found = [
            pid
            for orphan in self._orphans()
            for pid in (orphan, *processes.descendants(orphan))
            if processes.is_alive(pid)
        ]
        if found:
            names = ", ".join(map(processes.name, found))
            leftovers.end_processes(found)
            say(f"a rank left processes behind, ended: {names}")

    def _end_sruns(self) -> None:
        """End what mpirun has left that waits for a lost node."""
        for pid in self._orphans():
            if processes.name(pid).startswith("srun "):
                _kill([*processes.descendants(pid), pid])

    def _watch_start(self, too_late: bool) -> None:
        """See which ranks have begun; if it is too late, end the job and name the others."""
        assert self._process is not None
        live = self._live_ranks()
        # Only the watchdog handles QUIT.
        self._begun |= {pid for pid in live if processes.handles(pid, signal.SIGQUIT)}
        late = [pid for pid in live if pid not in self._begun]
        self._lost_for = self._lost_for + 1 if _have_dead_siblings(late) else 0
        if self._lost_for == PATIENCE:
            say(f"a rank ended {PATIENCE} s ago, but mpirun and the others wait for it: ended")
            _kill(live)
            self._process.kill()
        if not too_late or self._late or (self._had_ranks and not late):
            return
        self._late = True
        say(_late_text(late, self.ranks))
        _kill(live)
        self._process.send_signal(signal.SIGTERM if live else signal.SIGKILL)


def _is_going(pid: int) -> bool:
    """Return whether a process is a rank, or has given its memory back, and has not ended."""
    variables = processes.environ(pid)
    return processes.is_alive(pid) and (is_rank(variables) or not any(variables))


def _kill(pids: list[int]) -> None:
    for pid in pids:
        processes.send(pid, signal.SIGKILL)


def _have_dead_siblings(pids: list[int]) -> bool:
    """Return whether a process beside these has ended, and nobody has asked how."""
    above = {processes.parent(pid) for pid in pids} - {0}
    return any(processes.state(pid) == "Z" for each in above for pid in processes.children(each))


def _late_text(late: list[int], ranks: int) -> str:
    stopped = {pid for pid in late if processes.state(pid) in ("T", "t")}
    who = [
        f"rank {processes.rank_of(pid)} (process {pid}{', stopped' if pid in stopped else ''})"
        for pid in late
    ]
    if stopped and len(stopped) < len(late):
        # The others wait for these.
        who = [text for text in who if "stopped" in text]
    return (
        f"the ranks did not all start within {start_limit.seconds():g} s "
        f"({start_limit.VARIABLE}); not begun: {', '.join(who) or f'all {ranks} ranks'}"
    )
