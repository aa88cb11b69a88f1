"""Start ranks again that died: from the newest checkpoint, as long as that helps."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcq.checkpoint import node_memory
from hpcq.checkpoint.files import list_checkpoints
from hpcq.errors import ExitCode
from hpcq.run import metrics_files, run_directory

# What another start would not change: what hpcq itself ends with, but for a stall; a program that
# is not there, as shells have it; and what somebody has asked for.
FINAL = {
    *(set(ExitCode) - {ExitCode.STALLED}),
    126,
    127,
    *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)),
}

# Seconds to wait where the start before the last one had already failed, and saved nothing.
MOST_DELAY = 30.0
_LOOK = 0.1

# Runs hpcq with these arguments on ranks, and returns the exit code. The time is that at which
# the ranks before ended; 0: these are the first.
Start = Callable[[Sequence[str], float], int]


@dataclass(frozen=True)
class Retries:
    """How often a run is started again without having saved anything between, and how."""

    most: int
    directory: Path
    """of the run"""
    overwrites: bool = False
    """the first start replaces the run that the directory holds"""

    def run(
        self,
        start: Start,
        arguments: Sequence[str],
        signals: Sequence[int],
        say: Callable[[str], object],
    ) -> int:
        """Start ranks until they end for good; return the exit code.

        Parameters
        ----------
        signals
            fills with requests to stop: after one there is no other start.
        """
        before = self._job_file()
        saved, tries = None, 0
        code, ended = start(arguments, 0.0), time.time()
        while code not in FINAL and not signals:
            newest = self._newest_step()
            tries, saved = 1 if newest != saved else tries + 1, newest
            if tries > self.most:
                if self.most:
                    say(f"failed {tries} times with nothing saved between: giving up")
                return code
            if self._job_file() != before or not self.overwrites:
                arguments = resuming(arguments)
            say(f"starting again, retry {tries} of {self.most}: {self._lost(newest)}")
            if not _wait(delay(tries), signals):
                return ExitCode.STOPPED
            code, ended = start(arguments, ended), time.time()
        return code

    def _job_file(self) -> tuple[int, int]:
        """Return what tells a job.json from the one before it; zeros where there is none."""
        try:
            found = (self.directory / run_directory.JOB).stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _newest_step(self) -> int:
        """Return the step of the newest checkpoint, by its name; -1 where there is none.

        It may be in the memory of this node.
        """
        try:
            found = list_checkpoints(self.directory)[:1]
        except OSError:
            return -1
        number = node_memory.number_of(self.directory)
        in_memory = number and node_memory.newest(number)
        steps = [int(path.stem.partition("-")[2]) for path in (*found, in_memory) if path]
        return max(steps, default=-1)

    def _lost(self, saved: int) -> str:
        """Return from where the run goes on, and how much is to be done again."""
        reported = metrics_files.newest(self.directory)
        lost = (reported["step"] if reported else 0) - max(saved, 0)
        steps = f"at least {lost:,} steps" if lost > 0 else "fewer steps than between two reports"
        return f"{f'from step {saved:,}' if saved >= 0 else 'from the beginning'}; lost: {steps}"


def resuming(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of hpcq that go on with the run that the given ones have begun."""
    if arguments[0] != "run" or "--resume" in arguments:
        return list(arguments)
    return [*(one for one in arguments if one != "--overwrite"), "--resume"]


def delay(tries: int) -> float:
    """Return the seconds to wait before the `tries`-th start in a row with nothing saved."""
    return 0.0 if tries == 1 else min(2.0 ** (tries - 2), MOST_DELAY)


def _wait(seconds: float, signals: Sequence[int]) -> bool:
    """Wait; return whether no signal came."""
    until = time.monotonic() + seconds
    while not signals and time.monotonic() < until:
        time.sleep(_LOOK)
    return not signals
