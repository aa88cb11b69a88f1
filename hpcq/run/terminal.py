"""Whether standard output, or that of the launcher it goes through, is a terminal.

mpirun gives rank 0 a terminal of its own (Open MPI) or a pipe and passes on what is written there,
be it to a terminal or to a file. mpirun's own output decides, if mpirun is our parent, or that of
the proxy (MPICH, Intel MPI) which is; on another node than mpirun's no terminal is assumed.
"""

import contextlib
import os
from collections.abc import Iterator

from hpcq.output import stdout
from hpcq.run import processes


@contextlib.contextmanager
def _output() -> Iterator[int]:
    """Yield a descriptor of the output that people see."""
    if not any(name in os.environ for name in processes.RANKS):
        yield stdout().fileno()
        return
    descriptor = os.open(f"/proc/{_launcher()}/fd/1", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _launcher() -> int:
    """Return the process that has started this rank, or whose proxy has."""
    pid = os.getppid()
    while processes.name(pid).startswith("hydra_"):
        pid = processes.parent(pid)
    return pid


def is_terminal() -> bool:
    """Return whether what this process prints ends on a terminal."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        with _output() as descriptor:
            return os.isatty(descriptor)
    except (OSError, ValueError):
        return False


def shows(live: bool | None) -> bool:
    """Return whether to update what is shown in place, as asked for by `live`.

    None: where output ends on a terminal that has the characters of the live view.
    """
    if live is not None:
        return live
    encoding = (stdout().encoding or "").lower().replace("-", "")
    return encoding == "utf8" and is_terminal()


def width() -> int:
    """Return the columns of the terminal; 80 where they are unknown."""
    try:
        with _output() as descriptor:
            return os.get_terminal_size(descriptor).columns or 80
    except (OSError, ValueError):
        return 80
