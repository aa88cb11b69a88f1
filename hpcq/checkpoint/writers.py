"""Three ways to write the rows of all ranks to one file; the file is the same.

`direct`: every rank writes its rows to their places; `mpio`: every rank writes them through
parallel HDF5; `gather`: they pass through rank 0 in bounded pieces.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.checkpoint.h5 import h5py
from hpcq.checkpoint.header import extent
from hpcq.checkpoint.staging import Extent, StagingFile
from hpcq.mpi import agree

Slab = tuple[str, int, NDArray]
"""dataset, first row, rows"""

_GATHER_TAG = 7


def _write_direct(comm: MPI.Intracomm, file: StagingFile, slabs: Iterator[Slab]) -> list[Extent]:
    """Write every rank's slabs to their places. Collective."""
    extents = []

    def write() -> None:
        with file.failures(), file.raw() as raw:
            for name, start, rows in slabs:
                file.write(raw, name, start, rows)
                extents.append(extent(name, start, rows))

    agree(comm, write)
    return extents


def _write_mpio(comm: MPI.Intracomm, file: StagingFile, slabs: Iterator[Slab]) -> list[Extent]:
    """Write every rank's slabs through parallel HDF5. Collective.

    Transfers are independent: slabs are large and contiguous, ranks may have different numbers
    of them, and a rank without any writes nothing.
    """
    extents: list[Extent] = []

    def open_all() -> Any:
        with file.failures():
            return h5py.File(file.path, "r+", driver="mpio", comm=comm)

    def write() -> None:
        with file.failures(), file.raw() as raw:
            for name, start, rows in slabs:
                opened[name][start : start + rows.shape[0]] = rows
                file.start_writeback(raw, name, start, rows)
                extents.append(extent(name, start, rows))

    opened = agree(comm, open_all)
    try:
        # Closing is collective: the ranks agree on success first.
        agree(comm, write)
    finally:
        with file.failures():
            opened.close()
    return extents


def _write_gather(comm: MPI.Intracomm, file: StagingFile, slabs: Iterator[Slab]) -> list[Extent]:
    """Send every rank's slabs through rank 0, one at a time. Collective."""
    extents: list[Extent] = []
    wanted = np.zeros(1, np.bool_)

    def feed() -> None:
        """Send a piece for each request of rank 0, so that it never holds more than one."""
        for name, start, rows in slabs:
            comm.Recv(wanted, 0, _GATHER_TAG)
            if not wanted[0]:
                return
            comm.send((name, start, rows.shape, rows.dtype.str), 0, _GATHER_TAG)
            comm.Send([rows.reshape(-1).view(np.uint8), MPI.BYTE], 0, _GATHER_TAG)
            extents.append(extent(name, start, rows))
        comm.Recv(wanted, 0, _GATHER_TAG)
        if wanted[0]:
            comm.send(None, 0, _GATHER_TAG)

    def received(source: int) -> Iterator[Slab]:
        while True:
            comm.Send(np.ones(1, np.bool_), source, _GATHER_TAG)
            announced = comm.recv(source=source, tag=_GATHER_TAG)
            if announced is None:
                unfinished.discard(source)
                return
            name, start, shape, dtype = announced
            rows = np.empty(shape, dtype)
            comm.Recv([rows.reshape(-1).view(np.uint8), MPI.BYTE], source, _GATHER_TAG)
            yield name, start, rows

    def drain() -> None:
        with file.raw() as raw:
            for name, start, rows in slabs:
                file.write(raw, name, start, rows)
                extents.append(extent(name, start, rows))
            for source in range(1, comm.size):
                for name, start, rows in received(source):
                    file.write(raw, name, start, rows)

    unfinished = set(range(1, comm.size))

    def write() -> None:
        if comm.rank > 0:
            feed()
            return
        try:
            with file.failures():
                drain()
        finally:
            for source in unfinished:
                comm.Send(np.zeros(1, np.bool_), source, _GATHER_TAG)

    agree(comm, write)
    return extents


WRITERS = {"direct": _write_direct, "mpio": _write_mpio, "gather": _write_gather}
