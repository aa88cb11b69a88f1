"""The temporary file of a checkpoint: laid out, filled, read back, then published by renaming.

HDF5 lays the file out and reports where each dataset begins; all of its space is reserved then, so
that a full disk is found before the first row is written. Rows are plain bytes at these offsets.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq import disk
from hpcq.checkpoint.checksum import crc32
from hpcq.checkpoint.h5 import h5py
from hpcq.checkpoint.header import EXTENT, Header, integrity, layout
from hpcq.errors import StorageError
from hpcq.table.digest import Digest

Extent = tuple[bytes, int, int, int]

# About what the structure of a file takes, beside the texts in its header.
_STRUCTURE_BYTES = 16 << 10

# Fits in a core's cache between reading and checksum.
_READ_BYTES = 1 << 20


class StagingFile:
    """The temporary file of one checkpoint, laid out by rank 0."""

    def __init__(self, path: Path, header: Header, extents: int) -> None:
        self.path = path
        self.header = header
        self.datasets = {d.name: d for d in layout(header) + integrity(extents)}
        self.needed = sum(dataset.nbytes for dataset in self.datasets.values())
        self.offsets: dict[str, int] = {}

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turn errors of disk and HDF5 into a StorageError that names needed and free bytes."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            code = getattr(error, "errno", None)
            if isinstance(error, OSError) and disk.in_the_way(error):
                there = error.filename2 or error.filename or self.path
                raise StorageError(
                    f"{there}: {error.strerror}: it is in the way of a checkpoint; move it "
                    "away; older checkpoints are untouched"
                ) from error
            # HDF5's text says more than the number of an error that the system has no name for.
            reason = os.strerror(code) if code and code in errno.errorcode else str(error)
            space = f"the checkpoint needs {self.needed:,} bytes"
            try:
                space += f", {_free_bytes(self.path.parent):,} are free"
            except OSError as gone:
                # HDF5 does not say so where the folder goes while it has the file.
                reason = gone.strerror or reason
            raise StorageError(
                f"{self.path}: {reason}; {space}; older checkpoints are untouched"
            ) from error

    def create(self) -> dict[str, int]:
        """Lay the file out, reserve all of its space; return where each dataset begins."""
        free = _free_bytes(self.path.parent)
        if self.needed > free:
            raise StorageError(
                f"{self.path.parent}: the checkpoint needs {self.needed:,} bytes, "
                f"{free:,} are free; older checkpoints are untouched"
            )
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.CONTIGUOUS)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        offsets = {}
        # What a killed run left, or a link, is not written into.
        os.close(disk.make(self.path))
        self._check_room()
        with h5py.File(self.path, "w", libver=("earliest", "v110")) as file:
            for dataset in self.datasets.values():
                group = file.require_group(os.path.dirname(dataset.name))
                made = h5py.h5d.create(
                    group.id,
                    os.path.basename(dataset.name).encode(),
                    h5py.h5t.py_create(dataset.dtype),
                    h5py.h5s.create_simple(dataset.shape),
                    plist,
                )
                offsets[dataset.name] = made.get_offset() or 0
            for name, value in self.header.attributes().items():
                file.attrs[name] = value
            file.attrs["complete"] = False
        with self.raw() as raw:
            os.posix_fallocate(raw.fileno(), 0, os.fstat(raw.fileno()).st_size)
        return offsets

    def _check_room(self) -> None:
        """Meet limits on files (ulimit -f, quotas) here, with the empty file, rather than in HDF5.

        A file that HDF5 cannot close crashes the process at its end, when MPI does.
        """
        texts = sum(len(str(value)) for value in self.header.attributes().values())
        with self.raw() as raw:
            os.ftruncate(raw.fileno(), self.needed + _STRUCTURE_BYTES + texts)
            os.ftruncate(raw.fileno(), 0)
            os.posix_fallocate(raw.fileno(), 0, _STRUCTURE_BYTES + texts)

    def raw(self) -> Any:
        """Open the file for writing bytes."""
        return open(self.path, "r+b", buffering=0)

    def write(self, raw: Any, name: str, start: int, rows: NDArray) -> None:
        """Write contiguous rows to their place in the file that `raw` has opened."""
        place = self._place(name, start)
        left = rows.reshape(-1).view(np.uint8).data
        while left:
            done = os.pwrite(raw.fileno(), left, place)
            left, place = left[done:], place + done
        self.start_writeback(raw, name, start, rows)

    def start_writeback(self, raw: Any, name: str, start: int, rows: NDArray) -> None:
        """Start writeback of these rows now, overlapping preparation of the next ones."""
        place = self._place(name, start)
        with contextlib.suppress(OSError):
            os.posix_fadvise(raw.fileno(), place, rows.nbytes, os.POSIX_FADV_DONTNEED)

    def _place(self, name: str, start: int) -> int:
        return self.offsets[name] + start * self.datasets[name].row_bytes

    def flush(self) -> None:
        """Flush to the disk what this process, or this node, has written."""
        with self.raw() as raw:
            os.fsync(raw.fileno())

    def compare(self, extents: list[Extent]) -> None:
        """Read extents back, past the page cache where possible, and compare checksums."""
        buffer = memoryview(bytearray(_READ_BYTES))
        with open(self.path, "rb", buffering=0) as raw:
            os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for encoded, start, count, crc in extents:
                name = encoded.decode()
                nbytes = count * self.datasets[name].row_bytes
                if _checksum(raw, self._place(name, start), nbytes, buffer) != crc:
                    raise StorageError(
                        f"{self.path}: {name} rows {start} ... {start + count - 1} read back "
                        "differently from what was written; older checkpoints are untouched"
                    )

    def finish(self, digest: Digest, extents: list[Extent]) -> None:
        """Write checksums and digest, mark the file complete, flush; `publish` follows."""
        order = {name.encode(): i for i, name in enumerate(self.datasets)}
        extents = sorted(extents, key=lambda e: (order[e[0]], e[1]))
        with self.raw() as raw:
            self.write(raw, "integrity/extents", 0, np.array(extents, EXTENT))
            self.write(raw, "integrity/digest", 0, np.array(digest, np.uint64))
        with h5py.File(self.path, "r+") as file:
            file.attrs.modify("complete", True)
        self.flush()

    def publish(self, path: Path) -> None:
        """Rename the file to its final name, and flush the directory."""
        disk.put(self.path, path)


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _checksum(raw: Any, place: int, nbytes: int, buffer: memoryview) -> int:
    crc, left = 0, nbytes
    while left:
        done = os.preadv(raw.fileno(), [buffer[:left]], place)
        if not done:
            raise OSError(errno.EIO, "the file is shorter than what was written")
        crc, place, left = crc32(buffer[:done], crc), place + done, left - done
    return crc
