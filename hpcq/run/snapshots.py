"""Checkpoints in memory, beside those on the disk: less is lost where a rank dies.

Every so many seconds the ranks write a checkpoint, the same file as on the disk, into the memory
of rank 0's node; a copy goes to another node, if there is one. A start that follows a death goes on
from the newest checkpoint that is whole, wherever it lies. Ranks on one node read it there; where
they are on several, the newest in memory is copied into the run directory first, if it is newer
than what lies there.
"""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from mpi4py import MPI

from hpcq import disk
from hpcq.checkpoint import node_memory, saving
from hpcq.checkpoint.files import list_checkpoints, prune
from hpcq.checkpoint.verification import verify
from hpcq.errors import HpcqError
from hpcq.learning.learner import Learner
from hpcq.mpi import agree, node_of, on_root

_PIECE_BYTES = 4 << 20


class Snapshots:
    """Writes the checkpoints in memory of a run that asks for them. Collective.

    Attributes
    ----------
    wanted : bool
        whether one is due, once the run can be saved
    """

    def __init__(self, learner: Learner, log: Callable[[str], object]) -> None:
        self._learner, self._log = learner, log
        self._seconds = learner.job.checkpoint.memory_seconds or 0.0
        self.wanted = False
        self._time = time.monotonic()
        self._number = ""
        # The first rank of another node, which has a copy.
        self._partner = 0
        if not self._seconds:
            return
        directory = learner.job.directory
        self._number = on_root(learner.comm, lambda: node_memory.give_number(directory))
        node = node_of(learner.comm)
        firsts = learner.comm.allgather(learner.comm.rank if node.rank == 0 else 0)
        self._partner = min(filter(None, firsts), default=0)
        node.Free()

    def time_is_up(self) -> bool:
        """Return whether one is due by this rank's clock; for rank 0, not collective."""
        return self._seconds > 0 and time.monotonic() - self._time >= self._seconds

    def write(self) -> None:
        """Write one; where that fails, say so, and write no more."""
        learner, comm = self._learner, self._learner.comm
        self.wanted = False
        try:
            for rank in sorted({0, self._partner}):
                agree(comm, self._make_folder if comm.rank == rank else lambda: None)
            # All ranks write where they all see the file.
            writer = "gather" if self._partner else "direct"
            learner.quiesce()
            folder = node_memory.folder_of(self._number)
            path, _ = saving.save(learner, folder, writer, 1, local=bool(self._partner))
            if self._partner:
                self._copy(path)
        except HpcqError as error:
            self._seconds = 0.0
            self._log(f"no checkpoints in memory from here on: {error}")
        self._time = time.monotonic()

    def _make_folder(self) -> None:
        node_memory.make_folder(self._number, self._learner.job.directory.absolute())

    def _copy(self, path: Path) -> None:
        """Copy a file from rank 0's memory to the partner's, under its name there. Collective."""
        comm, partner = self._learner.comm, self._learner.comm.rank == self._partner
        # Simulated nodes may share a memory, and a name.
        if comm.bcast(_which(path) == comm.bcast(_which(path)), self._partner):
            return
        temporary, piece = path.with_name(path.name + disk.PARTIAL), bytearray(_PIECE_BYTES)
        nbytes = on_root(comm, lambda: path.stat().st_size)
        source = agree(comm, lambda: open(path, "rb") if comm.rank == 0 else None)
        # With its room reserved, nothing can fail on one side only.
        target = agree(comm, lambda: _reserved(temporary, nbytes) if partner else None)
        for start in range(0, nbytes, _PIECE_BYTES):
            part = memoryview(piece)[: nbytes - start]
            if source is not None:
                source.readinto(part)
                comm.Send(part, self._partner)
            elif target is not None:
                comm.Recv(part, 0)
                target.write(part)
        for one in filter(None, (source, target)):
            one.close()
        if partner:
            disk.put(temporary, path)
            prune(path.parent, 1, path)


def _reserved(path: Path, nbytes: int) -> IO[bytes]:
    """Return a new file whose room is reserved."""
    file = open(disk.make(path), "wb")
    os.posix_fallocate(file.fileno(), 0, nbytes)
    return file


def seen_by_all(comm: MPI.Intracomm, directory: Path, log: Callable[[str], object]) -> list[Path]:
    """Return the newest checkpoint of a run in memory, if every rank sees it. Collective.

    Where the ranks are on several nodes, the newest whole one of them all is copied to the disk, if
    none there is newer.
    """
    number = on_root(comm, lambda: node_memory.number_of(directory))
    if number is None:
        return []
    path = node_memory.newest(number)
    seen = comm.allgather((path, path and _which(path)))
    if all(one == seen[0] for one in seen):
        return [path] if path else []
    # The ranks of a node see the same file; the first of them reads it.
    readers: dict[Path, int] = {}
    for rank, (theirs, _) in enumerate(seen):
        if theirs is not None:
            readers.setdefault(theirs, rank)
    on_disk = on_root(comm, lambda: [path.name for path in list_checkpoints(directory)][:1])
    for found in sorted(readers, key=lambda path: path.name, reverse=True):
        if on_disk and found.name <= on_disk[0]:
            break
        reader = readers[found]
        mine = path if comm.rank == reader else None
        reason = comm.bcast(agree(comm, partial(_take, mine, directory)), reader)
        if not reason:
            log(f"{found.name} was in the memory of a node: copied to {directory}")
            break
        log(f"skipped {reason}")
    return []


def _which(path: Path) -> tuple[int, ...]:
    """Return what tells a file from those of the same name on other nodes; () if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _take(path: Path | None, directory: Path) -> str:
    """Copy a file into the run directory; return why not, if that cannot be, or it is not whole."""
    if path is None:
        return ""
    try:
        verify(path)
        with disk.writing(directory / path.name) as copy, disk.open_file(path) as file:
            shutil.copyfileobj(file, copy, _PIECE_BYTES)
    except (HpcqError, OSError) as error:
        return f"{path}: {error}"
    return ""


def forget(comm: MPI.Intracomm, directory: Path) -> None:
    """Remove what the run has in the nodes' memories: all of it is on the disk. Collective."""
    number = on_root(comm, lambda: node_memory.number_of(directory))
    if number is None:
        return
    node_memory.remove(number)
    on_root(comm, lambda: (directory / node_memory.NUMBER).unlink(missing_ok=True))
