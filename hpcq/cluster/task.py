"""A job that is run by a command of its own, and what the command's log says of a failure."""

import os
from dataclasses import dataclass
from pathlib import Path

from hpcq import disk

# Lines of a long message that are shown: the first, and so many last ones.
_SHOWN = 8
_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class Task:
    """One job to run."""

    name: str
    arguments: tuple[str, ...]
    """of the command hpcq"""
    directory: Path
    """its run directory"""
    steps: int
    """of the whole run"""
    log: Path
    """what the command prints is added to this file"""

    def reason(self, begin: int) -> str:
        """Return why the command failed whose output begins at this byte of the log.

        Raises
        ------
        OSError
            if the log cannot be read.
        """
        with disk.open_file(self.log) as log:
            log.seek(max(begin, os.fstat(log.fileno()).st_size - _LOG_BYTES))
            return reason_of(log.read(_LOG_BYTES).decode(errors="replace"))


def reason_of(text: str) -> str:
    """Return the first message of an error in what a command has printed, or its last lines.

    A message begins with "hpcq: " and ends where another one begins.
    """
    lines = text.rstrip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("hpcq: ")]
    errors = [i for i in starts if not lines[i].startswith("hpcq: warning")]
    if errors:
        end = next((i for i in starts if i > errors[0]), len(lines))
        lines = lines[errors[0] : end]
    elif len(lines) > _SHOWN:
        lines = lines[-_SHOWN:]
    if len(lines) > _SHOWN + 1:
        lines = [lines[0], "...", *lines[-_SHOWN:]]
    return "\n".join(lines)
