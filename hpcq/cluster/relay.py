"""Pass on what a launcher prints, whatever becomes of the place that it goes to.

mpirun ends the job where its own output has no reader or is full. A small process between the two
reads everything, and drops what cannot be written. It is nobody's child, and outlives this process
if that is killed: the ranks then save the run, and what they say must not fail.
"""

import os
import select
import signal

from hpcq.output import Writer
from hpcq.run.signals import STOP_SIGNALS
from hpcq.run.stderr import say

_AT_ONCE = 1 << 16


class Relay:
    """Standard output and error for children; what is a terminal they are given as it is."""

    def __init__(self) -> None:
        self._given: list[int] = []
        # Written to when all is over; written to by nobody, and closed when all is passed on.
        self._finish, self._finishing = os.pipe()
        self._passed_on, self._passing = os.pipe()
        # Both into one file stay in order through one pipe.
        together = os.path.sameopenfile(1, 2)
        self.stdout = None if os.isatty(1) else self._start(1)
        self.stderr = self.stdout if together else None if os.isatty(2) else self._start(2)
        os.close(self._passing)

    def _start(self, number: int) -> int:
        """Start the process that writes to `number`; return the descriptor that it reads from."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if os.fork() == 0:
                    for end in (writing, self._finishing, self._passed_on, *self._given):
                        os.close(end)
                    # Signals of the terminal are for others.
                    os.setpgid(0, 0)
                    for each in (*STOP_SIGNALS, signal.SIGHUP, signal.SIGQUIT):
                        signal.signal(each, signal.SIG_IGN)
                    _pass_on(reading, self._finish, Writer(number))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(reading)
        self._given.append(writing)
        return writing

    def say(self, message: str) -> None:
        """Print a message on standard error, after all that the children have printed there."""
        say(message, 2 if self.stderr is None else self.stderr)

    def finish(self) -> None:
        """Wait until all that the children have printed is passed on; others may still hold it."""
        for end in self._given:
            os.close(end)
        os.write(self._finishing, b"\0" * len(self._given))
        os.read(self._passed_on, 1)
        for end in (self._finish, self._finishing, self._passed_on):
            os.close(end)


def _pass_on(reading: int, finish: int, out: Writer) -> None:
    """Write what can be read, until nobody can write any more, or nothing comes and it is over."""
    watched, over = [reading, finish], False
    while True:
        ready, _, _ = select.select(watched, [], [], 0 if over else None)
        if finish in ready:
            watched.remove(finish)
            # Nothing to read: our parent was killed, and the child goes on.
            over = bool(os.read(finish, 1))
        if reading in ready:
            data = os.read(reading, _AT_ONCE)
            if not data:
                return
            out.write_all(data)
        elif over and not ready:
            return
