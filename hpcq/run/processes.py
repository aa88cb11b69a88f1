"""Other processes of this machine, as /proc shows them."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# In the environment of the ranks that `hpcq run -n` starts: its process, and on which host.
STARTED_BY = "HPCQ_STARTED_BY"
# In that of ranks which it starts again: when those before them ended, in seconds since 1970.
ENDED_AT = "HPCQ_ENDED_AT"
# A launcher says by one of these which rank a process is: Open MPI's, PMIx, MPICH's and Intel's.
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def children(pid: int) -> list[int]:
    """Return the child processes of a process; none if it has ended."""
    try:
        texts = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(number) for text in texts for number in text.split()]


def descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, theirs, and so on."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def state(pid: int) -> str:
    """Return the letter of a process's state, such as "T" for stopped; "" if it has ended."""
    return _status(pid)[0]


def parent(pid: int) -> int:
    """Return the parent of a process; 0 if the process has ended."""
    return int(_status(pid)[1])


def _status(pid: int) -> tuple[str, str]:
    """Return state and parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", "0"
    # The state follows the name, which is in brackets and may hold anything.
    found, above, *_ = stat.rpartition(")")[2].split()
    return found, above


def is_alive(pid: int) -> bool:
    """Return whether a process has not ended: a zombie has."""
    return state(pid) not in ("", "Z", "X")


def name(pid: int) -> str:
    """Return what a process is called, for messages."""
    try:
        command = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        command = "?"
    return f"{command} (process {pid})"


def environ(pid: int) -> dict[str, str]:
    """Return the variables with which a process was started; none if that is not to be known."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)


def handles(pid: int, number: int, ignored: bool = False) -> bool:
    """Return whether a process handles a signal, or (`ignored`) ignores it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    entries = dict(line.split(":", 1) for line in lines)
    mask = int(entries["SigCgt"], 16) | (int(entries["SigIgn"], 16) if ignored else 0)
    return bool(mask >> (number - 1) & 1)


def stopped_ranks() -> list[str]:
    """Return the ranks beside this one that are stopped, such as by SIGSTOP, as text."""
    if not any(name in os.environ for name in RANKS):
        return []
    beside = [pid for pid in children(os.getppid()) if state(pid) in ("T", "t")]
    return [f"rank {rank_of(pid)} (process {pid}) is stopped" for pid in beside]


def rank_of(pid: int) -> str:
    """Return the rank of a launcher's process; "?" where that is not to be known."""
    found = environ(pid)
    return next((found[name] for name in RANKS if name in found), "?")


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.Signals(number))
