"""The content of a checkpoint, and the part of it that a rank writes."""

import dataclasses
import math
import sys
from collections.abc import Iterator

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq._version import __version__
from hpcq.checkpoint.columns import to_column
from hpcq.checkpoint.h5 import h5py
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.reader import HEADER_ERRORS, check_spaces
from hpcq.checkpoint.writers import Slab
from hpcq.errors import JobError
from hpcq.hashing import keys_of
from hpcq.learning.learner import Learner
from hpcq.table.digest import Digest, digest_rows

PIECE_BYTES = 16 << 20


class Snapshot:
    """A run as it stands, to be written by all ranks together. Making it is collective.

    Attributes
    ----------
    header : Header
        what is the same on all ranks
    slabs : int
        pieces of all ranks
    digest : Digest
        of this rank's rows, once `pieces` is exhausted
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        fields = {field.dataset: field for field, _ in learner.saved_arrays()}
        self._columns = {f.dataset: to_column(f, array) for f, array in learner.saved_arrays()}
        lengths = {name: len(column) for name, column in self._columns.items()}
        counts = learner.comm.allgather((len(learner.shard), self._own_slabs(), lengths))
        rows, slabs, parts = zip(*counts, strict=True)
        before = learner.comm.rank
        self._first_row = sum(rows[:before])
        self._starts = {name: sum(part[name] for part in parts[:before]) for name in lengths}
        extra = {
            name: [sum(part[name] for part in parts), *column.shape[1:]]
            for name, column in self._columns.items()
            if fields[name].needs
        }
        self.slabs: int = sum(slabs)
        self.header = _header(learner, sum(rows), extra)
        self.digest = Digest()

    def pieces(self) -> Iterator[Slab]:
        """Yield this rank's part of every dataset, in bounded pieces.

        A piece is valid until the next one is asked for.
        """
        shard, algorithm = self._learner.shard, self._learner.algorithm
        start, total = self._first_row, Digest()
        # Where a rule keeps several tables, the file has a dimension for them.
        several = algorithm.tables > 1
        shape = (-1, algorithm.tables, algorithm.actions) if several else (-1, shard.columns)
        for hashes, q, visits, masks in shard.pieces_with_masks(self._table_rows()):
            total = total.plus(digest_rows(hashes, q, visits))
            yield "table/key", start, keys_of(hashes)
            yield "table/q", start, q.reshape(shape)
            if shard.keeps_visits:
                yield "table/visits", start, visits.reshape(shape)
            if shard.keeps_masks:
                yield "table/mask", start, masks[:, 0]
            start += hashes.size
        self.digest = total
        for name, column in self._columns.items():
            rows = _rows_per_piece(_row_bytes(column))
            for at in range(0, len(column), rows):
                yield name, self._starts[name] + at, column[at : at + rows]

    def _table_rows(self) -> int:
        """Return the rows of the table in a piece."""
        shard = self._learner.shard
        return _rows_per_piece(8 + shard.columns * shard.dtype.itemsize)

    def _own_slabs(self) -> int:
        """Return how many slabs `pieces` yields."""
        shard = self._learner.shard
        pieces = -(-len(shard) // self._table_rows())
        return pieces * (2 + shard.keeps_visits + shard.keeps_masks) + sum(
            -(-len(column) // _rows_per_piece(_row_bytes(column)))
            for column in self._columns.values()
        )


def check_header(learner: Learner) -> None:
    """Refuse a job whose checkpoints could not be read: before it trains, not at its end.

    Raises
    ------
    JobError
        naming what no checkpoint can hold.
    """
    extra = {f.dataset: list(array.shape) for f, array in learner.saved_arrays() if f.needs}
    # A learner that has not begun is at tick -1.
    header = dataclasses.replace(_header(learner, 0, extra), tick=0)
    try:
        check_spaces(Header.from_attributes(header.attributes()))
    except HEADER_ERRORS as error:
        raise JobError(f"{learner.job.source}: no checkpoint can hold this run: {error}") from error


def _rows_per_piece(row_bytes: int) -> int:
    return max(1, PIECE_BYTES // row_bytes)


def _row_bytes(column: NDArray) -> int:
    return column.itemsize * math.prod(column.shape[1:])


def _header(learner: Learner, rows: int, extra: dict[str, list[int]]) -> Header:
    """Return the header of a checkpoint of this learner with `rows` rows in all.

    Parameters
    ----------
    extra
        shapes of the datasets that not every job has, over all ranks.
    """
    environment = learner.environment
    return Header(
        job=learner.job.text(),
        environment=environment.id,
        observation=environment.observation,
        actions=environment.actions,
        action=environment.action,
        tick=learner.saved_tick,
        step=learner.steps,
        rows=rows,
        dtype=learner.shard.dtype.name,
        visits=learner.shard.keeps_visits,
        environments=learner.job.environment.count,
        ranks=learner.comm.size,
        tables=learner.algorithm.tables,
        masks=learner.algorithm.masked,
        versions=_versions(),
        progress=learner.progress.as_dict(),
        extra=extra,
        combine=learner.algorithm.combine,
    )


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that computed the table."""
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
