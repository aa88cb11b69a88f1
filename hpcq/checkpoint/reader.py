"""Read a checkpoint: its structure and its rows.

A file is untrusted until it has been verified. A child process asks HDF5 where its datasets begin;
here they are read at these places as plain numbers, so that a hostile file can only hold wrong
values.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint import sandbox
from hpcq.checkpoint.header import Dataset, Header, integrity, layout
from hpcq.errors import CheckpointError, JobError, UnreadableError
from hpcq.hashing import hashes_of
from hpcq.printable import printable
from hpcq.spaces.actions import Actions
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import legal_actions
from hpcq.table.combine import combine_tables

PIECE_BYTES = 16 << 20


class Rows:
    """A dataset in an open file; ``rows[start:stop]`` reads some of it."""

    def __init__(self, path: str | Path, descriptor: int, dataset: Dataset, offset: int) -> None:
        self.shape = dataset.shape
        self.dtype = dataset.dtype
        self.row_bytes = dataset.row_bytes
        self._path = path
        self._descriptor = descriptor
        self._dataset = dataset
        self._offset = offset

    def __getitem__(self, rows: slice) -> NDArray:
        start, stop, _ = rows.indices(self.shape[0])
        try:
            out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
            place = self._offset + start * self.row_bytes
            left = out.reshape(-1).view(np.uint8).data
            while left:
                got = os.preadv(self._descriptor, [left], place)
                if got == 0:
                    raise CheckpointError(f"{self._path}: it ends in {self._dataset.name}")
                left, place = left[got:], place + got
        except (OSError, MemoryError) as error:
            raise unreadable(self._path, error) from None
        return out

    def pieces(self, start: int, stop: int) -> Iterator[NDArray]:
        """Yield the rows `start` ... `stop - 1`, at most 16 MiB (or one row) at a time."""
        rows = max(1, PIECE_BYTES // self.row_bytes)
        for at in range(start, stop, rows):
            yield self[at : min(stop, at + rows)]


Columns = Mapping[str, Rows]


def unreadable(path: str | Path, error: OSError | MemoryError) -> UnreadableError:
    """Return the error of a file that the system does not let this process read."""
    reason = error.strerror if isinstance(error, OSError) else "too little memory"
    return UnreadableError(f"{path}: cannot be read: {reason}")


@contextmanager
def opened(
    path: str | Path, found: dict[str, Any] | None = None
) -> Iterator[tuple[Columns, Header]]:
    """Open a checkpoint whose structure is right; yield (its datasets, header).

    Parameters
    ----------
    found
        the result of `sandbox.describe` for this file, if it is known already.

    Raises
    ------
    CheckpointError
        for a file that is not a complete checkpoint of this format.
    UnreadableError, DependencyError
        for one that could not be looked into.
    """
    found = found or sandbox.describe(path)
    header = Header.from_attributes(found["attributes"])
    places = found["places"]
    try:
        check_spaces(header)
    except HEADER_ERRORS as error:
        raise CheckpointError(f"{path}: not an hpcq checkpoint: {printable(error)}") from error
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        datasets = layout(header) + integrity(places["integrity/extents"][1])
        yield {d.name: Rows(path, descriptor, d, places[d.name][0]) for d in datasets}, header
    finally:
        os.close(descriptor)


def read_header(path: str | Path) -> Header:
    """Return the header of a checkpoint; see `opened`."""
    with opened(path) as (_, header):
        return header


# What an invalid header may raise.
HEADER_ERRORS = (JobError, KeyError, ValueError, TypeError, RecursionError, OverflowError)


def check_spaces(header: Header) -> None:
    """Raise one of `HEADER_ERRORS` if a header's job is no JSON object, or its spaces are none."""
    if not isinstance(json.loads(header.job), dict):
        raise ValueError("the job is not a JSON object")
    Codec(header.observation)
    if Actions.described(header.action).count != header.actions:
        raise ValueError(f"{header.actions} actions, but their description has others")


def table_pieces(
    file: Columns, header: Header, start: int, stop: int
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield the rows `start` ... `stop - 1` in bounded pieces: hashes, q, visits.

    q (n, actions) is what the policy acts on: of several tables the combination that the header
    names. visits (n, actions) are those of all tables together, or (n, 0). Where the environment
    says which actions are legal, the others are -inf: nothing that compares actions takes them for
    the best.
    """
    for hashes, q, visits, masks in stored_pieces(file, header, start, stop):
        if header.tables > 1:
            q = combine_tables(q, header.combine)
            visits = visits.sum(axis=1, dtype=np.uint32) if header.visits else visits
        if header.masks:
            q = np.where(legal_actions(masks, header.actions), q, q.dtype.type(-np.inf))
        yield hashes, q, visits


def stored_pieces(
    file: Columns, header: Header, start: int, stop: int
) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray]]:
    """Yield rows as the file holds them: hashes, q, visits (or (n, 0)), masks (or (0,)).

    Masks are (n,), or (n, words) where they have several words.
    """
    most = max(1, PIECE_BYTES // (header.actions * header.tables * 8))
    for at in range(start, stop, most):
        rows = slice(at, min(stop, at + most))
        q = file["table/q"][rows]
        visits, masks = np.zeros((q.shape[0], 0), np.uint32), np.zeros(0, np.uint64)
        if header.visits:
            visits = file["table/visits"][rows]
        if header.masks:
            masks = file["table/mask"][rows]
        yield hashes_of(file["table/key"][rows]), q, visits, masks


def find_row(file: Columns, header: Header, hash_: int) -> int:
    """Return the index of the first row whose hash is not below `hash_`; binary search."""
    low, high = 0, header.rows
    keys = file["table/key"]
    while low < high:
        middle = (low + high) // 2
        if int(hashes_of(keys[middle : middle + 1])[0]) < hash_:
            low = middle + 1
        else:
            high = middle
    return low
