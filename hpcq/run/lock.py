"""One run per run directory: a lock file that names its owner and ends with it.

The owner holds a lock of the operating system on `run.lock`, which the kernel releases when the
process ends, however it ends; many shared file systems honour it between nodes. Where they do not,
the content of the file decides: its owner, and its age, since a running owner touches it.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

from hpcq import disk
from hpcq.errors import RunDirectoryError

NAME = "run.lock"

# A lock of another node that was not touched for longer, by the file system's clock, is stale.
STALE_SECONDS = 120.0
TOUCH_SECONDS = 15.0

# ENOTSUPP, which NFS servers and FUSE can return, has no name in Python.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524)

# The C struct flock.
_FLOCK = "hhqqi"

# The directories that trainings of this process hold. The system's locks are of a process: they do
# not keep two of its trainings apart, and are gone when any descriptor of the file is closed.
_HELD: set[tuple[int, int, int]] = set()
_HELD_LOCK = threading.Lock()


class RunLock:
    """The lock of one run directory, held from `acquire` to `release`; for rank 0."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._descriptor = -1
        # Open as long as the lock is held, so that no other directory gets its inode.
        self._folder = -1
        self._touched = 0.0
        self._held: tuple[int, int, int] | None = None
        self._job = ""

    def acquire(self, job: str) -> None:
        """Take the lock.

        Raises
        ------
        RunDirectoryError
            naming job, host, process and, under Slurm, the batch job of the owner.
        OSError
            if the directory cannot be written, or the name of the file is taken by something else.
        """
        self._hold()
        try:
            self._acquire(job)
        except BaseException:
            self._let_go()
            raise

    def _hold(self) -> None:
        """Refuse a directory that another training of this process holds."""
        folder = os.stat(self._path.parent)
        # With the process: a fork holds nothing.
        held = (os.getpid(), folder.st_dev, folder.st_ino)
        with _HELD_LOCK:
            if held in _HELD:
                raise RunDirectoryError(
                    f"{self._path.parent} is in use by another training of this process; wait for "
                    "it, close it (`close()` of what `hpcq.iter_train` returned), or choose "
                    "another run.directory"
                )
            _HELD.add(held)
        self._held = held

    def _let_go(self) -> None:
        with _HELD_LOCK:
            if self._held is not None:
                _HELD.discard(self._held)
        self._held = None

    def _acquire(self, job: str) -> None:
        while True:
            descriptor = disk.open_own(self._path, os.O_RDWR | os.O_CREAT)
            try:
                exact = self._lock(descriptor)
                self._check_owner(descriptor, exact)
                # Its owner may have removed it after we opened it and before we locked it.
                if _same_file(descriptor, self._path):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        self._descriptor, self._job = descriptor, job
        try:
            if self._folder < 0:
                self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_owner_record(job)).encode(), 0)
        except OSError:
            self.release()
            raise

    def check(self) -> None:
        """Make sure, before anything is written, that this is still the directory that was locked.

        A lock file that somebody has removed is made again. Where there is no directory any more
        nothing can be mixed up: writing will fail.

        Raises
        ------
        RunDirectoryError
            if another directory has its name, or another run has taken it.
        """
        if self._descriptor < 0 or _same_file(self._descriptor, self._path):
            return
        if not self._path.parent.exists():
            return
        if not _same_file(self._folder, self._path.parent):
            raise RunDirectoryError(
                f"{self._path.parent} is no longer the directory in which this run began: it was "
                "moved or removed, and another one has its name; the checkpoints are where it is "
                "now: go on with `hpcq resume DIR` there"
            )
        os.close(self._descriptor)
        self._descriptor = -1
        self._acquire(self._job)

    def touch(self) -> None:
        """Renew the time of the lock file, at most every `TOUCH_SECONDS`."""
        if self._descriptor >= 0 and time.monotonic() - self._touched > TOUCH_SECONDS:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)

    def release(self) -> None:
        """Remove the lock, if it is held."""
        self._let_go()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                if _same_file(self._descriptor, self._path):
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _lock(self, descriptor: int) -> bool:
        """Lock the file; return whether the file system supports locks."""
        try:
            # Owned by the process, not by the descriptor: child processes do not inherit it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            self._refuse(_owner(descriptor))
        return True

    def _check_owner(self, descriptor: int, exact: bool) -> None:
        """Refuse if the owner named in the file may still run, although the lock was free."""
        owner = _owner(descriptor)
        ours = os.environ.get("SLURM_JOB_ID")
        # A batch job that was requeued is not running elsewhere.
        if not owner or (ours and owner.get("slurm_job") == ours):
            return
        if owner.get("host") == socket.gethostname():
            alive = not exact and _exists(owner.get("pid"))
        else:
            age = _clock(self._path.parent) - os.fstat(descriptor).st_mtime
            alive = age < STALE_SECONDS
        if alive:
            self._refuse(owner)

    def _refuse(self, owner: dict[str, Any]) -> None:
        slurm = f", Slurm job {owner['slurm_job']}" if owner.get("slurm_job") else ""
        raise RunDirectoryError(
            f"{self._path.parent} is in use: job {owner.get('job', '?')} on host "
            f"{owner.get('host', '?')}, process {owner.get('pid', '?')}{slurm}; wait for it, stop "
            "it, or choose another directory with --set run.directory=DIR"
        )


def is_held(directory: Path) -> bool:
    """Return whether a process holds the lock of a run, here or, as it seems, on another host.

    Not for a process that trains: closing the file would release its own lock.
    """
    path = directory / NAME
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with disk.open_file(path) as file:
            owner = _owner(file.fileno())
            held = struct.unpack(_FLOCK, fcntl.fcntl(file.fileno(), fcntl.F_GETLK, asked))
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return False
    if held[0] != fcntl.F_UNLCK:
        return True
    here = socket.gethostname()
    return owner.get("host", here) != here and age < STALE_SECONDS


def _owner_record(job: str) -> dict[str, Any]:
    return {
        "job": job,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _owner(descriptor: int) -> dict[str, Any]:
    """Return the content of the lock file; empty if it is not valid."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _exists(pid: Any) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _clock(folder: Path) -> float:
    """Return the present time by the clock of the folder's file system."""
    probe = folder / f".clock-{os.getpid()}.partial"
    descriptor = disk.make(probe)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        probe.unlink()
