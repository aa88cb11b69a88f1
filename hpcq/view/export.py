"""Export a table, or its greedy policy, as columns: .npz, .csv or .parquet.

Observations are decoded: a column for each of their numbers. Memory is bounded by a piece of the
table; the file gets its name by a rename when it is complete.
"""

import csv
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq import disk
from hpcq.errors import DependencyError, JobError, StorageError
from hpcq.view.inspect import best_actions
from hpcq.view.table import Rows, Table

Columns = dict[str, NDArray]


def columns_of(table: Table, rows: Rows, what: str) -> Columns:
    """Return some rows as columns, each (n,) or (n, A)."""
    columns: Columns = {"key": rows.keys}
    columns |= {f"observation{k}": v for k, v in table.codec.columns(rows.keys).items()}
    best = best_actions(rows.q)
    columns |= _named("action", table.actions.batch(best))
    columns["value"] = rows.q.max(axis=1)
    if what == "table":
        columns["q"] = rows.q
        if table.header.visits:
            columns["visits"] = rows.visits
    return columns


def _named(name: str, batch: Any) -> Columns:
    """Return a batch of actions as columns, one for each leaf of its tuples and dicts."""
    if isinstance(batch, np.ndarray):
        return {name: batch if batch.ndim == 1 else batch.reshape(len(batch), -1)}
    parts = batch.items() if isinstance(batch, dict) else enumerate(batch)
    columns: Columns = {}
    for key, part in parts:
        columns |= _named(f"{name}.{key}", part)
    return columns


def flat(columns: Columns) -> Columns:
    """Return the columns with a column for every action: q[0], q[1], ..."""
    found: Columns = {}
    for name, values in columns.items():
        if values.ndim == 1:
            found[name] = values
        else:
            found |= {f"{name}[{i}]": values[:, i] for i in range(values.shape[1])}
    return found


def export(source: str | Path, target: str | Path, what: str = "table") -> int:
    """Write a checkpoint's rows, in hash order, to another file; return their number.

    Parameters
    ----------
    source
        a checkpoint, or a run directory: its newest checkpoint.
    target
        a name that ends in .npz, .csv or .parquet.
    what
        "table": key, observation, greedy action and value, Q-values, visits; "policy": without the
        last two.

    Raises
    ------
    CheckpointError, JobError, DependencyError, StorageError
        for a bad file, another ending, .parquet without pyarrow, a disk that is full.
    """
    target = Path(target)
    write = WRITERS.get(target.suffix)
    if write is None:
        raise JobError(f"{target}: expected a name that ends in {', '.join(WRITERS)}")
    with Table(source) as table:
        partial = target.with_name(target.name + disk.PARTIAL)
        try:
            os.close(disk.make(partial))
            try:
                write(partial, table, what)
                disk.flush(partial)
                disk.put(partial, target)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            there = error.filename or target
            raise StorageError(f"{there}: cannot be written: {error.strerror}") from None
        return len(table)


def _pieces(table: Table, what: str) -> Iterator[Columns]:
    for rows in table.pieces():
        yield columns_of(table, rows, what)


def _csv(path: Path, table: Table, what: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(flat(columns_of(table, table.rows(0, 0), what)))
        for columns in _pieces(table, what):
            writer.writerows(zip(*(c.tolist() for c in flat(columns).values()), strict=True))


def _npz(path: Path, table: Table, what: str) -> None:
    empty = columns_of(table, table.rows(0, 0), what)
    with zipfile.ZipFile(path, "w") as file:
        for name, values in empty.items():
            header = {
                "descr": np.lib.format.dtype_to_descr(values.dtype),
                "fortran_order": False,
                "shape": (len(table), *values.shape[1:]),
            }
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for columns in _pieces(table, what):
                    member.write(np.ascontiguousarray(columns[name]).data.cast("B"))


def _parquet(path: Path, table: Table, what: str) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DependencyError(
            ".parquet needs pyarrow: pip install 'hpcq[parquet]', or export .csv or .npz"
        ) from None

    def batch(columns: Columns) -> Any:
        return pyarrow.table(flat(columns))

    empty = batch(columns_of(table, table.rows(0, 0), what))
    with parquet.ParquetWriter(path, empty.schema) as writer:
        for columns in _pieces(table, what):
            writer.write_table(batch(columns))


WRITERS: dict[str, Callable[[Path, Table, str], None]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
}
