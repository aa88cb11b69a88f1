"""Save a run to one HDF5 file, whole or not at all.

Rank 0 lays the file out under a temporary name and reserves its space; the ranks write their
rows; rank 0 adds integrity table, digest and, last, `complete`; every rank reads its rows back
and compares; rank 0 publishes the file by renaming it. The ranks agree after each phase, so that
a failure anywhere removes the temporary and is an error on all.

Two writers fill the same file: `mpio`, in which every rank writes its contiguous slabs through
parallel HDF5, and `funnel`, in which the slabs pass through rank 0 in bounded pieces.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq import __version__
from hpcq.digest import Digest, digest_rows
from hpcq.errors import DependencyError, StorageError
from hpcq.h5 import HAS_MPI, h5py
from hpcq.hashing import unmix64
from hpcq.learner import Learner, total_digest
from hpcq.parallel import agree, on_root
from hpcq.rundir import checkpoint_name, prune
from hpcq.schema import EXTENT, Dataset, Header, actors_to_columns, extent, layout

PIECE_BYTES = 64 << 20

_FUNNEL_TAG = 7

Slab = tuple[str, int, NDArray]
Write = Callable[[str, int, NDArray], None]


def choose_writer(asked: str) -> str:
    """Return the writer for a job's `checkpoint.writer`.

    Raises
    ------
    DependencyError
        if `mpio` is asked for and h5py was built without MPI.
    """
    if asked == "mpio" and not HAS_MPI:
        raise DependencyError(
            "checkpoint.writer = 'mpio', but this h5py was built without MPI; build h5py "
            "against a parallel HDF5 (HDF5_MPI=ON pip install --no-binary=h5py h5py), "
            "or set checkpoint.writer = 'funnel'"
        )
    if asked == "auto":
        return "mpio" if HAS_MPI else "funnel"
    return asked


def versions() -> dict[str, str]:
    """Return the versions of what took part in computing the table."""
    import gymnasium
    import numba

    return {
        "hpcq": __version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "gymnasium": gymnasium.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "mpi": MPI.Get_library_version().split(",")[0].strip("\0\n "),
    }


def header_of(learner: Learner, rows: int) -> Header:
    """Return the header of a checkpoint of this learner with `rows` rows in all."""
    environment = learner.environment
    return Header(
        job=learner.job.text(),
        environment=environment.id,
        observation=environment.observation,
        actions=environment.actions,
        action_start=environment.action_start,
        tick=learner.tick,
        step=learner.steps,
        rows=rows,
        dtype=learner.shard.dtype.name,
        visits=learner.shard.keeps_visits,
        environments=learner.job.environment.count,
        ranks=learner.comm.size,
        versions=versions(),
    )


def _slabs(learner: Learner, first_row: int, found: list[Digest]) -> Iterator[Slab]:
    """Yield this rank's part of every dataset, in bounded pieces; leave its digest in `found`.

    A piece is valid until the next one is asked for.
    """
    shard = learner.shard
    row_bytes = 8 + shard.actions * shard.dtype.itemsize
    start, total = first_row, Digest()
    for hashes, q, visits in shard.pieces(max(1, PIECE_BYTES // row_bytes)):
        total = total.plus(digest_rows(hashes, q, visits))
        yield "table/key", start, unmix64.py_func(hashes)
        yield "table/q", start, q
        if shard.keeps_visits:
            yield "table/visits", start, visits
        start += hashes.size
    found.append(total)
    for name, column in actors_to_columns(learner.collector.actors).items():
        rows = PIECE_BYTES // column.itemsize
        for at in range(0, column.size, rows):
            yield name, learner.start + at, column[at : at + rows]


def _create(path: Path, datasets: list[Dataset]) -> None:
    """Lay the file out and reserve all of its space, or raise OSError."""
    needed = sum(dataset.nbytes for dataset in datasets)
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise StorageError(
            f"{path.parent}: the checkpoint needs {needed:,} bytes, {free:,} are free"
        )
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for dataset in datasets:
            group = file.require_group(os.path.dirname(dataset.name))
            h5py.h5d.create(
                group.id,
                os.path.basename(dataset.name).encode(),
                h5py.h5t.py_create(dataset.dtype),
                h5py.h5s.create_simple(dataset.shape),
                plist,
            )
    with open(path, "r+b") as raw:
        os.posix_fallocate(raw.fileno(), 0, path.stat().st_size)


def _write_mpio(comm: MPI.Intracomm, path: Path, slabs: Iterator[Slab]) -> list[tuple]:
    """Write every rank's slabs through parallel HDF5. Collective.

    Transfers are independent: slabs are large and contiguous, ranks may have different numbers
    of them, and a rank without any writes nothing.
    """
    extents: list[tuple] = []

    def write() -> None:
        for name, start, rows in slabs:
            file[name][start : start + rows.shape[0]] = rows
            extents.append(extent(name, start, rows))

    file = agree(comm, lambda: h5py.File(path, "r+", driver="mpio", comm=comm), str(path))
    try:
        # Closing is collective: the ranks agree on success before they close together.
        agree(comm, write, str(path))
    finally:
        file.close()
    return extents


def _write_funnel(comm: MPI.Intracomm, path: Path, slabs: Iterator[Slab]) -> list[tuple]:
    """Send every rank's slabs through rank 0, one at a time. Collective."""
    extents: list[tuple] = []
    go_on = np.zeros(1, np.bool_)

    def feed() -> None:
        """Send a piece each time rank 0 asks, so that it never holds more than one."""
        for name, start, rows in slabs:
            comm.Recv(go_on, 0, _FUNNEL_TAG)
            if not go_on[0]:
                return
            comm.send((name, start, rows.shape, rows.dtype.str), 0, _FUNNEL_TAG)
            comm.Send([rows.reshape(-1).view(np.uint8), MPI.BYTE], 0, _FUNNEL_TAG)
            extents.append(extent(name, start, rows))
        comm.Recv(go_on, 0, _FUNNEL_TAG)
        if go_on[0]:
            comm.send(None, 0, _FUNNEL_TAG)

    def received(source: int) -> Iterator[Slab]:
        while True:
            comm.Send(np.ones(1, np.bool_), source, _FUNNEL_TAG)
            announced = comm.recv(source=source, tag=_FUNNEL_TAG)
            if announced is None:
                unfinished.discard(source)
                return
            name, start, shape, dtype = announced
            rows = np.empty(shape, dtype)
            comm.Recv([rows.reshape(-1).view(np.uint8), MPI.BYTE], source, _FUNNEL_TAG)
            yield name, start, rows

    def drain() -> None:
        with h5py.File(path, "r+") as file:
            for name, start, rows in slabs:
                file[name][start : start + rows.shape[0]] = rows
                extents.append(extent(name, start, rows))
            for source in range(1, comm.size):
                for name, start, rows in received(source):
                    file[name][start : start + rows.shape[0]] = rows

    unfinished = set(range(1, comm.size))

    def write() -> None:
        if comm.rank > 0:
            feed()
            return
        try:
            drain()
        finally:
            for source in unfinished:
                comm.Send(np.zeros(1, np.bool_), source, _FUNNEL_TAG)

    agree(comm, write, str(path))
    return extents


def _finish(path: Path, header: Header, digest: Digest, extents: list[tuple]) -> None:
    """Write integrity table, digest and attributes, `complete` last; flush to the disk."""
    order = {dataset.name.encode(): i for i, dataset in enumerate(layout(header))}
    extents = sorted(extents, key=lambda e: (order[e[0]], e[1]))
    with h5py.File(path, "r+") as file:
        file["integrity/extents"] = np.array(extents, EXTENT)
        file["integrity/digest"] = np.array(digest, np.uint64)
        for name, value in header.attributes().items():
            file.attrs[name] = value
        file.flush()
        file.attrs["complete"] = True
    with open(path, "r+b") as raw:
        os.fsync(raw.fileno())


def _compare(path: Path, extents: list[tuple]) -> None:
    """Read this rank's extents back and compare their checksums."""
    with h5py.File(path, "r") as file:
        for name, start, count, crc in extents:
            rows = np.ascontiguousarray(file[name.decode()][start : start + count])
            if extent(name.decode(), start, rows)[3] != crc:
                raise StorageError(
                    f"{path}: {name.decode()} rows {start} ... {start + count - 1} read back "
                    "differently from what was written"
                )


def save(learner: Learner, directory: Path, writer: str, keep: int) -> tuple[Path, Digest]:
    """Save the run as it stands after a tick; return the file and the table's digest. Collective.

    Parameters
    ----------
    writer
        `mpio` or `funnel`, from `choose_writer`.
    keep
        newest checkpoints that stay in the directory.

    Raises
    ------
    StorageError
        on every rank, if any rank failed; older checkpoints stay, the temporary does not.
    """
    comm = learner.comm
    path = directory / checkpoint_name(learner.steps)
    temporary = path.with_suffix(".h5.partial")
    counts = np.array(comm.allgather(len(learner.shard)), np.int64)
    header = header_of(learner, int(counts.sum()))
    found: list[Digest] = []
    slabs = _slabs(learner, int(counts[: comm.rank].sum()), found)
    try:
        on_root(comm, lambda: _create(temporary, layout(header)), str(temporary))
        write = _write_mpio if writer == "mpio" else _write_funnel
        extents = write(comm, temporary, slabs)
        digest = total_digest(comm, found[0])
        gathered = comm.gather(extents)
        everything = [one for part in gathered or [] for one in part]
        on_root(comm, lambda: _finish(temporary, header, digest, everything), str(temporary))
        agree(comm, lambda: _compare(temporary, extents), str(temporary))
        on_root(comm, lambda: _publish(temporary, path), str(path))
    except BaseException:
        if comm.rank == 0:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    on_root(comm, lambda: prune(directory, keep, path))
    return path, digest


def _publish(temporary: Path, path: Path) -> None:
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
