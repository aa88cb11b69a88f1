"""Run several jobs on this machine, some at a time, each as a command `hpcq run` of its own.

At a stop every running job saves and ends, as it does alone. A job that fails leaves the others
alone. If this process is killed, the kernel sends USR1 to each command, which ends its ranks.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType

from hpcq import disk
from hpcq.cluster.implementations import THREADS
from hpcq.cluster.launcher import launched
from hpcq.cluster.mpirun import hpcq_command
from hpcq.cluster.pool_view import PoolView
from hpcq.cluster.supervise import signal_at_parent_death
from hpcq.cluster.task import Task
from hpcq.errors import INTERRUPTED, ExitCode, JobError, StorageError
from hpcq.printable import printable_lines
from hpcq.run import lock, processes
from hpcq.run.formatting import time_text
from hpcq.run.signals import stop_signals, wanted

# Seconds between two looks at the commands.
_PAUSE = 0.1
# Seconds for the runs of a command that was killed to save themselves.
_IN_USE = 60.0


@dataclass(frozen=True)
class Outcome:
    """How the command of a task ended."""

    task: Task
    code: int
    """its exit code, as shells have it"""

    @property
    def failed(self) -> bool:
        """Whether it neither is done nor can simply go on."""
        return self.code not in (ExitCode.DONE, ExitCode.STOPPED)


class _Command:
    """A running `hpcq run`."""

    def __init__(self, task: Task) -> None:
        self.task, self.started = task, time.monotonic()
        self._told = 0.0
        with disk.append(task.log) as log:
            self.begin = os.fstat(log.fileno()).st_size
            self.process = subprocess.Popen(
                hpcq_command(task.arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # One rank without a launcher has no threads of libraries, either.
                env={**THREADS, **os.environ},
                # Out of the terminal's process group: Ctrl-C is for this process alone.
                process_group=0,
                preexec_fn=partial(_end_with_parent, os.getpid()),
            )

    def tell(self, kill: bool) -> None:
        """Ask the command to save and stop, or to end at once.

        Not before it handles signals: it would die of one. To end at once, it wants two INTs.
        """
        ready = processes.handles(self.process.pid, signal.SIGUSR1)
        if not ready or (self._told and not kill) or time.monotonic() - self._told < 1:
            return
        self._told = time.monotonic()
        processes.send(self.process.pid, signal.SIGINT if kill else signal.SIGUSR1)


def _end_with_parent(parent: int) -> None:
    """Have the system send USR1 to this process when its parent dies, or has died."""
    signal_at_parent_death()
    if os.getppid() != parent:
        os._exit(ExitCode.STOPPED)


class Pool:
    """Runs tasks, a number of them at once, until all have ended or a stop is requested.

    Parameters
    ----------
    view
        shows progress, and what happens.
    """

    def __init__(self, tasks: Sequence[Task], at_once: int, view: PoolView) -> None:
        self._waiting, self._at_once, self._view = list(tasks), at_once, view
        self._running: list[_Command] = []
        self._began = time.monotonic()
        self._signals: list[int] = []
        self._outcomes: list[Outcome] = []

    def run(self) -> int:
        """Run the tasks, and return an exit code: that of the first that failed, in their order.

        At the first Ctrl-C, TERM, HUP or USR1 the running tasks save and stop, no other one is
        started, and the code is `STOPPED`; a second Ctrl-C ends them at once.

        Raises
        ------
        StorageError
            if a log cannot be written.
        """
        order = {task.name: at for at, task in enumerate(self._waiting)}
        with stop_signals() as self._signals:
            for number in wanted():
                signal.signal(number, self._note)
            while self._running or (self._waiting and not self._signals):
                self._start()
                self._view.show([command.task for command in self._running])
                time.sleep(_PAUSE)
                self._pass_on()
                self._collect()
        self._view.close()
        self._outcomes.sort(key=lambda outcome: order[outcome.task.name])
        return self._code()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    @property
    def _killed(self) -> bool:
        return self._signals.count(signal.SIGINT) > 1

    def _code(self) -> int:
        undone = self._waiting or any(outcome.code for outcome in self._outcomes)
        if self._signals and undone:
            return INTERRUPTED if self._killed else ExitCode.STOPPED
        failures = [outcome.code for outcome in self._outcomes if outcome.failed]
        stopped = ExitCode.STOPPED if undone else ExitCode.DONE
        return failures[0] if failures else stopped

    def _start(self) -> None:
        """Start tasks up to the number at once."""
        while len(self._running) < self._at_once and not self._signals:
            task = self._next()
            if task is None:
                return
            try:
                self._running.append(_Command(task))
            except OSError as error:
                raise StorageError(f"{task.log}: cannot be written: {error.strerror}") from None

    def _next(self) -> Task | None:
        """Return the next task; one whose directory is still in use comes later."""
        patient = time.monotonic() - self._began < _IN_USE
        for at, task in enumerate(self._waiting):
            if not (patient and lock.is_held(task.directory)):
                return self._waiting.pop(at)
        if self._waiting and not self._running:
            self._view.log_once(
                f"waiting up to {_IN_USE:g} s for {self._waiting[0].name}: its run directory, "
                f"{self._waiting[0].directory}, is in use"
            )
        return None

    def _pass_on(self) -> None:
        if self._signals:
            self._view.log_once("stop requested: what runs saves and stops")
            for command in self._running:
                command.tell(self._killed)

    def _collect(self) -> None:
        """Take note of the commands that have ended."""
        for command in list(self._running):
            code = command.process.poll()
            if code is None:
                continue
            self._running.remove(command)
            code = code if code >= 0 else 128 - code
            outcome = Outcome(command.task, code)
            self._outcomes.append(outcome)
            self._view.ended(command.task, done=code == ExitCode.DONE, failed=outcome.failed)
            took = time_text(time.monotonic() - command.started)
            if code == ExitCode.DONE:
                self._view.log(f"{command.task.name}: done, {took}")
            elif self._killed:
                self._view.log(f"{command.task.name}: interrupted")
            elif code == ExitCode.STOPPED:
                self._view.log(f"{command.task.name}: stopped and saved")
            else:
                self._view.log(
                    f"{command.task.name}: FAILED after {took}, exit code {code}; see "
                    f"{command.task.log}\n{_indented(command.task.reason(command.begin))}"
                )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in printable_lines(text).split("\n"))


def refuse_launcher() -> None:
    """Raise a JobError where a launcher has started this process: each task starts its own."""
    count, variable = launched()
    if variable:
        raise JobError(
            f"this is one of {count} processes that a launcher started ({variable}={count}), but "
            "every job is given a launcher of its own: leave that one out, and say -n"
        )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
