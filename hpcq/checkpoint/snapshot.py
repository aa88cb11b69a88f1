"""The content of a checkpoint, and the part of it that a rank writes."""

import dataclasses
import math
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq._version import __version__
from hpcq.checkpoint.columns import to_column
from hpcq.checkpoint.h5 import h5py
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.reader import HEADER_ERRORS, check_spaces
from hpcq.checkpoint.writers import Slab
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError
from hpcq.fields import Field
from hpcq.hashing import keys_of
from hpcq.job.job import Job
from hpcq.learning import saved_state
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.progress import Progress
from hpcq.spaces.masks import shape_of
from hpcq.table.digest import Digest, digest_rows

PIECE_BYTES = 16 << 20


class Rows(Protocol):
    """The rows of one rank: a `table.shard.Shard`, or a solved table's."""

    columns: int
    dtype: np.dtype
    keeps_visits: bool
    keeps_masks: bool

    def __len__(self) -> int: ...

    def pieces_with_masks(self, rows: int) -> Iterator[tuple[NDArray, ...]]:
        """Yield hashes, q, visits and masks, in the order of the hashes."""


class Saved(Protocol):
    """What is saved: a learner, or a solved table."""

    @property
    def comm(self) -> MPI.Intracomm:
        """The ranks that save together."""

    @property
    def job(self) -> Job:
        """The effective job."""

    @property
    def environment(self) -> CompiledEnvironment | PythonEnvironment:
        """What the table is of."""

    @property
    def algorithm(self) -> Algorithm:
        """How many values a state has, and what they mean."""

    @property
    def shard(self) -> Rows:
        """The rows of this rank."""

    @property
    def progress(self) -> Progress:
        """What decides when a run ends."""

    @property
    def steps(self) -> int:
        """Environment steps, or sweeps, done."""

    @property
    def saved_tick(self) -> int:
        """The tick, or sweep, that the file is of."""

    @property
    def solution(self) -> dict[str, Any]:
        """What is proven of a solved table; else empty."""

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what a checkpoint holds of this rank beside its table."""


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

    def __init__(self, learner: Saved) -> None:
        self._learner = learner
        self._averaged = bool(_table_shapes(learner, 0))
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
        mask = shape_of(algorithm.mask_words)
        for hashes, q, visits, masks in shard.pieces_with_masks(self._table_rows()):
            values = np.ascontiguousarray(q[:, : shard.columns])
            total = total.plus(digest_rows(hashes, values, visits))
            yield "table/key", start, keys_of(hashes)
            yield "table/q", start, values.reshape(shape)
            if shard.keeps_visits:
                yield "table/visits", start, visits.reshape(shape)
            if shard.keeps_masks:
                yield "table/mask", start, masks.reshape(hashes.size, *mask)
            if self.header.intervals:
                sums = np.ascontiguousarray(q[:, shard.columns :])
                yield "table/intervals", start, sums.reshape(hashes.size, algorithm.actions, -1)
            start += hashes.size
        self.digest = total
        for name, column in self._columns.items():
            rows = _rows_per_piece(_row_bytes(column))
            for at in range(0, len(column), rows):
                yield name, self._starts[name] + at, column[at : at + rows]

    def _table_rows(self) -> int:
        """Return the rows of the table in a piece."""
        shard = self._learner.shard
        columns = shard.columns + (self._learner.algorithm.sums if self._averaged else 0)
        return _rows_per_piece(8 + columns * shard.dtype.itemsize)

    def _own_slabs(self) -> int:
        """Return how many slabs `pieces` yields."""
        shard = self._learner.shard
        pieces = -(-len(shard) // self._table_rows())
        return pieces * (2 + shard.keeps_visits + shard.keeps_masks + self._averaged) + sum(
            -(-len(column) // _rows_per_piece(_row_bytes(column)))
            for column in self._columns.values()
        )


def check_header(learner: Saved) -> None:
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


def _table_shapes(learner: Saved, rows: int) -> dict[str, list[int]]:
    """Return the shapes of what stands beside the values; beside solved ones there is nothing."""
    return {} if learner.solution else saved_state.table_shapes(learner.algorithm, rows)


def _rows_per_piece(row_bytes: int) -> int:
    return max(1, PIECE_BYTES // row_bytes)


def _row_bytes(column: NDArray) -> int:
    return column.itemsize * math.prod(column.shape[1:])


def _header(learner: Saved, rows: int, extra: dict[str, list[int]]) -> Header:
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
        extra=extra | _table_shapes(learner, rows),
        combine=learner.algorithm.combine,
        solution=learner.solution,
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
