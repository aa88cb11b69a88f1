"""Save a run to one HDF5 file, whole or not at all.

Rank 0 lays the whole file out under a temporary name and reserves its space before the first row
is written; the ranks write their rows and flush them; each rank reads what its neighbour wrote
back from the disk and compares; rank 0 adds checksums, digest and, last, `complete`, and publishes
the file by renaming it. The ranks agree after each phase, so that a failure anywhere removes the
temporary and is an error on all.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq import __version__
from hpcq.checkpoint.columns import actors_to_columns, keys_of
from hpcq.checkpoint.h5 import HAS_MPI, h5py
from hpcq.checkpoint.partial import Extent, PartialFile
from hpcq.checkpoint.schema import EXTRAS, Header
from hpcq.checkpoint.writers import WRITERS, Slab
from hpcq.errors import DependencyError
from hpcq.learning.learner import Learner, total_digest
from hpcq.parallel import agree, on_root
from hpcq.run.rundir import checkpoint_name, prune
from hpcq.table.digest import Digest, digest_rows

T = TypeVar("T")

PIECE_BYTES = 16 << 20


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
            "or set checkpoint.writer = 'direct' or 'funnel'"
        )
    return "direct" if asked == "auto" else asked


def versions() -> dict[str, str]:
    """Return the versions of what took part in computing the table."""
    import numba

    gymnasium = sys.modules.get("gymnasium")
    return {
        "hpcq": __version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        **({"gymnasium": gymnasium.__version__} if gymnasium else {}),
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "mpi": MPI.Get_library_version().split(",")[0].strip("\0\n "),
    }


def header_of(learner: Learner, rows: int, extra: dict[str, list[int]]) -> Header:
    """Return the header of a checkpoint of this learner with `rows` rows in all.

    Parameters
    ----------
    extra
        shapes of what the mode saves beside the rest, over all ranks.
    """
    environment = learner.environment
    return Header(
        job=learner.job.text(),
        environment=environment.id,
        observation=environment.observation,
        actions=environment.actions,
        action=environment.action,
        tick=learner.clock,
        step=learner.steps,
        rows=rows,
        dtype=learner.shard.dtype.name,
        visits=learner.shard.keeps_visits,
        environments=learner.job.environment.count,
        ranks=learner.comm.size,
        tables=learner.method.rule.tables,
        masks=learner.method.masked,
        versions=versions(),
        progress=learner.progress.as_dict(),
        extra=extra,
    )


def _rows_per_piece(row_bytes: int) -> int:
    return max(1, PIECE_BYTES // row_bytes)


def _table_rows_per_piece(learner: Learner) -> int:
    return _rows_per_piece(8 + learner.shard.columns * learner.shard.dtype.itemsize)


def _columns(learner: Learner) -> dict[str, NDArray]:
    """Return this rank's part of all that is not the table."""
    return {**actors_to_columns(learner.collector.actors), **learner.extra_columns()}


def _slabs(
    learner: Learner,
    first_row: int,
    columns: dict[str, NDArray],
    starts: dict[str, int],
    found: list[Digest],
) -> Iterator[Slab]:
    """Yield this rank's part of every dataset, in bounded pieces; leave its digest in `found`.

    A piece is valid until the next one is asked for.
    """
    shard = learner.shard
    start, total = first_row, Digest()
    tables = learner.method.rule.tables
    # Where a rule keeps several tables, the file has a dimension for them.
    shape = (-1, tables, learner.method.actions) if tables > 1 else (-1, shard.columns)
    for hashes, q, visits, masks in shard.pieces_with_masks(_table_rows_per_piece(learner)):
        total = total.plus(digest_rows(hashes, q, visits))
        yield "table/key", start, keys_of(hashes)
        yield "table/q", start, q.reshape(shape)
        if shard.keeps_visits:
            yield "table/visits", start, visits.reshape(shape)
        if shard.keeps_masks:
            yield "table/mask", start, masks[:, 0]
        start += hashes.size
    found.append(total)
    for name, column in columns.items():
        rows = _rows_per_piece(_row_bytes(column))
        for at in range(0, len(column), rows):
            yield name, starts[name] + at, column[at : at + rows]


def _row_bytes(column: NDArray) -> int:
    return column.itemsize * math.prod(column.shape[1:])


def _slab_count(learner: Learner, columns: dict[str, NDArray]) -> int:
    """Return how many slabs `_slabs` yields."""
    pieces = -(-len(learner.shard) // _table_rows_per_piece(learner))
    shard = learner.shard
    return pieces * (2 + shard.keeps_visits + shard.keeps_masks) + sum(
        -(-len(column) // _rows_per_piece(_row_bytes(column))) for column in columns.values()
    )


def save(
    learner: Learner,
    directory: Path,
    writer: str,
    keep: int,
    milestones: frozenset[int] = frozenset(),
    seconds: dict[str, float] | None = None,
) -> tuple[Path, Digest]:
    """Save the run as it stands after a tick; return the file and the table's digest. Collective.

    Parameters
    ----------
    writer
        `direct`, `mpio` or `funnel`, from `choose_writer`.
    keep
        newest checkpoints that stay in the directory.
    milestones
        steps whose checkpoints stay beside these.
    seconds
        filled with the time that each phase took on this rank.

    Raises
    ------
    StorageError
        on every rank, if any rank failed; older checkpoints stay, the temporary does not.
    """
    comm = learner.comm
    path = directory / checkpoint_name(learner.steps)
    columns = _columns(learner)
    lengths = {name: len(column) for name, column in columns.items()}
    counts = comm.allgather((len(learner.shard), _slab_count(learner, columns), lengths))
    first_row = sum(rows for rows, _, _ in counts[: comm.rank])
    starts = {name: sum(before[name] for _, _, before in counts[: comm.rank]) for name in columns}
    extra = {
        name: [sum(part[name] for _, _, part in counts), *columns[name].shape[1:]]
        for name in columns
        if name in EXTRAS
    }
    header = header_of(learner, sum(rows for rows, _, _ in counts), extra)
    slabs = sum(slabs for _, slabs, _ in counts)
    file = PartialFile(path.with_suffix(".h5.partial"), header, slabs)
    found: list[Digest] = []

    @contextlib.contextmanager
    def timed(phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if seconds is not None:
            seconds[phase] = time.perf_counter() - start

    try:
        with timed("lay out"):
            file.offsets = on_root(comm, _or_storage_error(file, file.create))
        with timed("write"):
            pieces = _slabs(learner, first_row, columns, starts, found)
            extents = WRITERS[writer](comm, file, pieces)
        with timed("flush"):
            agree(comm, _or_storage_error(file, file.flush))
        with timed("read back"):
            _read_back(comm, file, extents)
        with timed("publish"):
            digest = total_digest(comm, found[0])
            everything = [one for part in comm.gather(extents) or [] for one in part]
            on_root(comm, _or_storage_error(file, lambda: file.finish(digest, everything)))
            on_root(comm, _or_storage_error(file, lambda: file.publish(path)))
    except BaseException:
        if comm.rank == 0:
            with contextlib.suppress(OSError):
                file.path.unlink()
        raise
    on_root(comm, _or_storage_error(file, lambda: prune(directory, keep, path, milestones)))
    return path, digest


def _or_storage_error(file: PartialFile, function: Callable[[], T]) -> Callable[[], T]:
    def guarded() -> T:
        with file.failures():
            return function()

    return guarded


def _read_back(comm: MPI.Intracomm, file: PartialFile, extents: list[Extent]) -> None:
    """Compare what is on the disk with what the neighbour rank wrote. Collective.

    A neighbour on another node does not see the cache of the one that wrote.
    """
    before, after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    others = comm.sendrecv(extents, dest=before, source=after)
    agree(comm, _or_storage_error(file, lambda: file.compare(others)))
