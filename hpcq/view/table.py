"""The table of a checkpoint: a mapping from observation to Q-values, read row by row on demand.

Rows are in hash order: one is found by binary search, and any contiguous part of them is a random
sample of the states.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.files import locate
from hpcq.checkpoint.reader import find_row, opened, table_pieces
from hpcq.errors import CheckpointError, JobError
from hpcq.hashing import hashes_of, keys_of, mix64
from hpcq.learning.intervals import estimates
from hpcq.printable import printable
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import Codec


class Rows(NamedTuple):
    """Some rows of a table, n of them."""

    hashes: NDArray[np.uint64]
    """(n,), ascending"""
    keys: NDArray[np.uint64]
    """(n,), see `Codec`"""
    q: NDArray[np.floating]
    """(n, A), what the policy acts on: the tables of a rule combined, and `Table.shift` added"""
    visits: NDArray[np.uint32]
    """(n, A) updates so far, of all tables; (n, 0) where they are not counted"""
    mean: NDArray[np.float64]
    """(n, A) averages of values over their updates, nan where there is none; (n, 0) where the job
    keeps none, see learning/intervals.py"""
    half_width: NDArray[np.float64]
    """as mean: of their 95 % intervals"""


class Table(Mapping[Any, NDArray]):
    """The table of a checkpoint; ``table[observation]`` gives the state's Q-values, (A,).

    Rows are read on demand. Observations that were never updated are not in it. Use it as a context
    manager, or call `close`.

    Parameters
    ----------
    path
        a checkpoint, or a run directory: its newest checkpoint.

    Attributes
    ----------
    path : Path
        the checkpoint
    header : Header
        the attributes of the file
    codec : Codec
        observation <-> key
    actions : Actions
        number <-> action of the environment
    shift : float
        that Q-values have above those in the file, where rewards were centred; else 0
    q_init : float
        every Q-value of a state without a row
    relative : bool
        whether Q-values have a meaning only relative to each other: of an average reward

    Raises
    ------
    CheckpointError
        for a file that is not a checkpoint.
    UnreadableError
        for one that this process cannot look into.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, found = locate(path)
        self._open = ExitStack()
        self._file, self.header = self._open.enter_context(opened(self.path, found))
        self.codec = Codec(self.header.observation)
        self.actions = Actions.described(self.header.action)
        self.job: dict[str, Any] = json.loads(self.header.job)
        learning = self.job["learning"]
        self.shift = self.header.shift(float(learning["gamma"]))
        self.q_init = float(learning["q_init"]) + self.shift
        # Also where the average reward is 0.
        centred = self.header.progress.get("reward_rate") is not None
        self.relative = learning["gamma"] == 1 and centred

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def __len__(self) -> int:
        return self.header.rows

    def __iter__(self) -> Iterator[Any]:
        for rows in self.pieces():
            for key in rows.keys.tolist():
                yield self.observation(key)

    def __getitem__(self, observation: Any) -> NDArray[np.floating]:
        found = self.find(self.key(observation))
        if found is None:
            raise KeyError(observation)
        return found.q[0]

    def __contains__(self, observation: Any) -> bool:
        try:
            return self.find(self.key(observation)) is not None
        except JobError:
            return False

    def arrays(self) -> Rows:
        """Return all rows as arrays: see `Rows`. Loads the whole table."""
        return self.rows(0, self.header.rows)

    def rows(self, start: int, stop: int) -> Rows:
        """Return the rows `start` ... `stop - 1`, in hash order."""
        pieces = list(self.pieces(start, stop))
        if len(pieces) == 1:
            return pieces[0]
        header, count = self.header, 0 if not self.header.visits else self.header.actions
        averages = np.empty((0, header.actions if header.intervals else 0))
        empty = Rows(
            np.empty(0, np.uint64),
            np.empty(0, np.uint64),
            np.empty((0, header.actions), header.dtype),
            np.empty((0, count), np.uint32),
            averages,
            averages,
        )
        return Rows(*map(np.concatenate, zip(empty, *pieces, strict=True)))

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[Rows]:
        """Yield the rows `start` ... `stop - 1` in bounded pieces."""
        stop = self.header.rows if stop is None else stop
        pieces = table_pieces(self._file, self.header, start, stop)
        for hashes, q, visits in pieces:
            averages = self._averages(start, start + hashes.size)
            yield Rows(hashes, keys_of(hashes), q + q.dtype.type(self.shift), visits, *averages)
            start += hashes.size

    def _averages(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the means and half-widths of rows."""
        if not self.header.intervals:
            nothing = np.empty((stop - start, 0))
            return nothing, nothing
        return estimates(self._file["table/intervals"][start:stop])

    def key(self, observation: Any) -> int:
        """Return the key of an observation.

        Raises
        ------
        JobError
            if it is not in the observation space.
        """
        try:
            return self.codec.encode(observation)
        except ValueError as error:
            raise JobError(
                f"{observation!r} is no observation of {printable(self.header.environment)}: "
                f"{printable(error)}"
            ) from None

    def observation(self, key: int) -> Any:
        """Return the observation of a key.

        Raises
        ------
        CheckpointError
            if it has none.
        """
        try:
            return self.codec.decode(key)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: table/key: no observation: {error}") from None

    def find(self, key: int) -> Rows | None:
        """Return the row of a key, or None if it has none; binary search."""
        hash_ = int(mix64.py_func(np.array([key], np.uint64))[0])
        at = find_row(self._file, self.header, hash_)
        found = self.rows(at, min(at + 1, self.header.rows))
        return found if found.hashes.size and int(found.hashes[0]) == hash_ else None

    def find_all(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
        """Return which of many keys are in the table (n,), and their Q-values (n, A), else nan.

        One pass over the table, in bounded pieces.
        """
        hashes = hashes_of(keys)
        order = np.argsort(hashes)
        ascending = hashes[order]
        seen = np.zeros(keys.size, np.bool_)
        q = np.full((keys.size, self.header.actions), np.nan, self.header.dtype)
        for rows in self.pieces():
            first = np.searchsorted(ascending, rows.hashes[0])
            last = np.searchsorted(ascending, rows.hashes[-1], "right")
            at = np.searchsorted(rows.hashes, ascending[first:last])
            found = rows.hashes[at] == ascending[first:last]
            here = order[first:last][found]
            seen[here] = True
            q[here] = rows.q[at[found]]
        return seen, q

    def column(self, name: str) -> NDArray:
        """Return a whole dataset, for small ones: a number for each environment, the digest."""
        return self._file[name][:]


def load_table(path: str | Path) -> Table:
    """Return the table of a checkpoint, or of a run directory; see `Table`."""
    return Table(path)
