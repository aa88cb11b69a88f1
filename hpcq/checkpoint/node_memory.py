"""Checkpoints in the memory of this node, in /dev/shm: they outlive ranks, but not the node.

A run that keeps some has a number in its run directory. A node's folder is named after that number,
and after the node: simulated nodes may share a memory. It belongs to its user alone.
"""

import contextlib
import json
import os
import shutil
import socket
import stat
import uuid
from pathlib import Path

from hpcq import disk
from hpcq.checkpoint.files import list_checkpoints
from hpcq.errors import StorageError

ROOT = Path("/dev/shm")
NUMBER = "memory.json"

# The run directory, in a folder.
_RUN = "run"


def _prefix() -> str:
    return f"hpcq-{os.getuid()}-"


def number_of(directory: Path) -> str | None:
    """Return the number of the run in a run directory; None if it has none."""
    try:
        found = json.loads(disk.read(directory / NUMBER, 1 << 12))["number"]
        return uuid.UUID(found).hex
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def give_number(directory: Path) -> str:
    """Return the number of the run in a run directory, a new one if it has none.

    Raises
    ------
    OSError
        if it cannot be written.
    """
    number = number_of(directory)
    if number is None:
        number = uuid.uuid4().hex
        disk.write_text(directory / NUMBER, json.dumps({"number": number}) + "\n")
    return number


def folder_of(number: str) -> Path:
    """Return this node's folder for a run; it need not exist."""
    return ROOT / f"{_prefix()}{number}-{socket.gethostname()}"


def make_folder(number: str, directory: Path) -> None:
    """Make this node's folder for a run, if it is not there.

    Raises
    ------
    StorageError
        if it belongs to somebody else.
    OSError
        if it cannot be made.
    """
    folder = folder_of(number)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_ours(folder):
        raise StorageError(f"{folder}: it is somebody else's")
    if run_of(folder) != directory:
        disk.write_text(folder / _RUN, str(directory))


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def folders(number: str = "") -> list[Path]:
    """Return the folders on this node of a run, or of all of this user's runs."""
    return [folder for folder in ROOT.glob(f"{_prefix()}{number}*") if _is_ours(folder)]


def newest(number: str) -> Path | None:
    """Return the newest checkpoint of a run on this node, by its name; None if there is none."""
    found = [path for folder in folders(number) for path in list_checkpoints(folder)]
    return max(found, key=lambda path: path.name, default=None)


def remove(number: str) -> None:
    """Remove what a run has in the memory of this node."""
    for folder in folders(number):
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans() -> None:
    """Remove what no run could go on from: its directory is gone, or holds another run.

    A directory that cannot be looked at, on a file system that is not mounted, say, may hold it.
    """
    for folder in folders():
        run = run_of(folder)
        if run is None or not os.path.exists(run.parent):
            continue
        if not os.path.lexists(run / NUMBER) or number_of(run) not in (None, _number(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def _number(folder: Path) -> str:
    return folder.name.split("-")[2]


def nbytes(folder: Path) -> int:
    """Return the bytes of the checkpoints in a folder."""
    total = 0
    for path in folder.glob("*.h5*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def run_of(folder: Path) -> Path | None:
    """Return the run directory that a folder names; None if that cannot be read."""
    try:
        return Path(disk.read(folder / _RUN, 1 << 16).decode())
    except (OSError, ValueError):
        return None
