"""A limit on the time until all ranks have joined, when no watchdog can run yet.

MPI_Init holds Python's lock: neither a thread nor a signal handler of Python's can end it.
"""

import faulthandler
import os

# For the slowest rank of a large job to load Python and hpcq from a busy file system.
SECONDS = 300.0
VARIABLE = "HPCQ_START_TIMEOUT"

# `hpcq run -n` knows more about its ranks: it comes first.
_LATER = 5.0


def seconds() -> float:
    """Return the limit: $HPCQ_START_TIMEOUT, or else `SECONDS`."""
    try:
        given = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return SECONDS
    return given if given > 0 else SECONDS


def arm() -> None:
    """Let this process print its stack and end, with code 1, if it gets no further in time.

    The watchdog, when it begins, takes over.
    """
    faulthandler.dump_traceback_later(seconds() + _LATER, exit=True, file=2)


def disarm() -> None:
    """Undo `arm`."""
    faulthandler.cancel_dump_traceback_later()
