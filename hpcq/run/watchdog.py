"""End a job that has stalled: a stopped process, an environment that sleeps for ever.

A thread on every rank checks that ticks go on. If they do not, each rank that still runs prints its
stack, and the job ends with code 76. The thread also touches the run's lock, and ends the rank when
the launcher that started it is gone.

Ranks detect a stall within a second of each other, unless one of them is allowed more time, for
saving. That one prints when the launcher ends it with SIGTERM: signal handlers run in the main
thread, which waits within MPI, but Python's wake-up pipe reaches this thread at once. So does
SIGQUIT, at which the rank prints its stack and ends.

Ending comes first, speaking second: nobody may read what is printed.
"""

import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcq.errors import ExitCode
from hpcq.run import leftovers, processes
from hpcq.run.stderr import say, silence

# Time for every rank to print before the first one aborts all.
GRACE_SECONDS = 2.0

# Most time for MPI to end all ranks, which it may say on an output that nobody reads.
ABORT_SECONDS = 10.0
# Then it ends without another word, and with code 1, even where nothing in Python runs any more.
LAST_RESORT_SECONDS = 60.0

# A disk slower than this, after a first delay, counts as stalled.
SLOW_BYTES_PER_SECOND = 10e6
DISK_SECONDS = 10.0

# For compiling and loading, on a busy machine.
START_SECONDS = 120.0

_HERE = Path(__file__).parent
# Where environments are stepped.
_STEPPING = (
    _HERE.parent / "collectors",
    _HERE.parent / "envs",
    _HERE / "preflight.py",
    _HERE / "compiling.py",
)

_LATEST = 1e6


def patience(nbytes: int) -> float:
    """Return the seconds that reading or writing so many bytes, over all ranks, may take."""
    return DISK_SECONDS + nbytes / SLOW_BYTES_PER_SECOND


class Watchdog:
    """Watches the main thread of this rank; use as a context manager.

    Parameters
    ----------
    comm
        the ranks that end together.
    limit
        seconds without a call of `beat` after which the job ends.
    touch
        called about every second.

    Attributes
    ----------
    stepping : callable
        says whether environments are being stepped now; None where the Python stack tells
    """

    def __init__(
        self, comm: MPI.Intracomm, limit: float, touch: Callable[[], None] = lambda: None
    ) -> None:
        self._comm = comm
        self._limit = limit
        self._touch = touch
        self.stepping: Callable[[], bool | None] = lambda: None
        self._beats = 0
        self._allowance = 0.0
        self._parent = os.getppid() if any(map(os.environ.get, processes.RANKS)) else 0
        starter = os.environ.get(processes.STARTED_BY, "") if self._parent else ""
        pid, _, host = starter.partition("@")
        self._starter = int(pid) if pid.isdecimal() and host == socket.gethostname() else 0
        self._done = threading.Event()
        self._signals, self._wake = os.pipe()
        self._woke_before = -1
        self._quit_before: Any = None
        self._watched = threading.main_thread().ident
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._in_main():
            os.set_blocking(self._wake, False)
            self._woke_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            # The thread acts on it. `hpcq run -n` takes this for the sign that a rank has begun.
            self._quit_before = signal.signal(signal.SIGQUIT, lambda number, frame: None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main():
            signal.set_wakeup_fd(self._woke_before)
            signal.signal(signal.SIGQUIT, self._quit_before)
        self._done.set()
        os.write(self._wake, b"\0")
        self._thread.join()
        os.close(self._wake)
        os.close(self._signals)
        faulthandler.cancel_dump_traceback_later()

    def _in_main(self) -> bool:
        """Return whether signals reach the calling thread."""
        return threading.get_ident() == self._watched

    def beat(self) -> None:
        """Record that this rank has reached an exchange with the others."""
        self._beats += 1

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Allow the body so many seconds more."""
        self._allowance = seconds
        self.beat()
        try:
            yield
        finally:
            self._allowance = 0.0
            self.beat()

    def _watch(self) -> None:
        pause = min(1.0, self._limit / 4)
        seen, idle, last = -1, 0.0, time.monotonic()
        while not self._done.is_set():
            came = self._signals_within(pause)
            if signal.SIGQUIT in came:
                say(f"{self._name()} was told to quit; it is here:\n{self._stack()[0]}")
                leftovers.end_children()
                # The launcher ends the others as soon as one rank has ended: they speak first.
                time.sleep(GRACE_SECONDS if self._comm.size > 1 else 0.0)
                leftovers.exit_now(128 + signal.SIGQUIT)
            if signal.SIGTERM in came and idle > self._limit / 2:
                self._print_stack(idle)
            self._touch()
            if self._parent and os.getppid() != self._parent:
                leftovers.exit_now(ExitCode.STALLED)
            if self._starter and not processes.is_alive(self._starter):
                # `hpcq run -n` was killed, perhaps when no rank could be told yet: save and stop.
                self._starter = 0
                os.kill(os.getpid(), signal.SIGUSR1)
            # A job that was suspended as a whole has not stalled: count only observed time.
            now = time.monotonic()
            idle += min(now - last, 2 * pause)
            last = now
            if self._beats != seen:
                seen, idle = self._beats, 0.0
                # Prints even where a library holds the GIL, so that this thread cannot run.
                later = min(self._limit + self._allowance + 2 * pause, _LATEST)
                faulthandler.dump_traceback_later(later, file=2)
            elif idle > self._limit + self._allowance:
                self._end(idle)

    def _end(self, idle: float) -> None:
        """End all ranks, after each had the time to print its stack."""
        # If this rank itself gets no further: it ends, and so all end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        faulthandler.dump_traceback_later(LAST_RESORT_SECONDS, exit=True, file=nowhere)
        begun = time.monotonic()
        said = self._print_stack(idle)
        leftovers.end_children()
        time.sleep(max(0.0, GRACE_SECONDS - (time.monotonic() - begun)))
        if not said:
            # MPI_Abort speaks, too, and a lone process needs it not.
            silence()
            if MPI.COMM_WORLD.size == 1:
                leftovers.exit_now(ExitCode.STALLED)
        abort = threading.Thread(target=self._comm.Abort, args=(ExitCode.STALLED,), daemon=True)
        abort.start()
        abort.join(ABORT_SECONDS)
        leftovers.exit_now(ExitCode.STALLED)

    def _signals_within(self, seconds: float) -> bytes:
        """Return the signals that come in so many seconds, as soon as one does."""
        ready, _, _ = select.select([self._signals], [], [], seconds)
        return os.read(self._signals, 64) if ready else b""

    def _name(self) -> str:
        return f"rank {self._comm.rank} on {MPI.Get_processor_name()}"

    def _stack(self) -> tuple[str, bool]:
        """Return the stack of the main thread, and whether it is stepping environments."""
        stack = traceback.extract_stack(sys._current_frames().get(self._watched or 0))
        files = [Path(frame.filename) for frame in stack]
        ours = [file for file in files if _HERE.parent in file.parents]
        begins = next((i for i, file in enumerate(files) if file.parent == _HERE), 0)
        # A rank that is stepping environments is the one that the others wait for.
        steps = self.stepping()
        if steps is None:
            steps = bool(ours) and (ours[-1].parent in _STEPPING or ours[-1] in _STEPPING)
        return "".join(traceback.format_list(stack[begins:])), steps

    def _print_stack(self, seconds: float) -> bool:
        """Print where this rank is, and which ranks are stopped; return whether that was done."""
        stack, steps = self._stack()
        what = "came to no exchange" if steps else "waits for other ranks"
        stopped = "".join(f"hpcq: {text}\n" for text in processes.stopped_ranks())
        return say(
            f"{self._name()} {what} for {seconds:.0f} s (run.stall_timeout = {self._limit:g}); "
            f"it is here:\n{stack}{stopped}"
        )
