"""Read a checkpoint: its structure, its rows, and whether every byte of it is right.

A file is data from outside until it has passed: only the names, types and shapes that its own
header calls for, contiguous and inside the file, count as a checkpoint.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.codec import Codec
from hpcq.digest import Digest, digest_rows
from hpcq.errors import CheckpointError
from hpcq.h5 import h5py
from hpcq.hashing import mix64
from hpcq.schema import EXTENT, FORMAT, Dataset, Header, extent, layout

ROWS_PER_PIECE = 1 << 18


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, Header]]:
    """Open a checkpoint whose structure is right; yield (file, header).

    Raises
    ------
    CheckpointError
        for a file that is not a complete checkpoint of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint (ckpt-STEP.h5)")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CheckpointError(f"{path}: not a readable HDF5 file: {error}") from None
    with file:
        try:
            header = _check_structure(path, file)
        except (KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
            raise CheckpointError(f"{path}: not an hpcq checkpoint: {error}") from error
        try:
            yield file, header
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error


def read_header(path: str | Path) -> Header:
    """Return the header of a checkpoint; see `opened`."""
    with opened(path) as (_, header):
        return header


def _check_structure(path: Path, file: Any) -> Header:
    if "format" not in file.attrs or "complete" not in file.attrs:
        raise CheckpointError(f"{path}: not a complete hpcq checkpoint")
    if file.attrs["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {file.attrs['format']}, this hpcq reads {FORMAT}; "
            "use the version of hpcq that wrote it"
        )
    header = Header.from_attributes(file.attrs)
    for dataset in layout(header):
        _check_dataset(path, file, dataset)
    pieces = _get(path, file, "integrity/extents").shape[0]
    _check_dataset(path, file, Dataset("integrity/extents", EXTENT, (pieces,)))
    _check_dataset(path, file, Dataset("integrity/digest", np.dtype("u8"), (3,)))
    return header


def _get(path: Path, file: Any, name: str) -> Any:
    """Return a dataset that is reached by hard links alone."""
    place = file
    for part in name.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise CheckpointError(f"{path}: {name} is missing, or is a link to elsewhere")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise CheckpointError(f"{path}: {name} is not a dataset")
    return place


def _check_dataset(path: Path, file: Any, expected: Dataset) -> None:
    found = _get(path, file, expected.name)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise CheckpointError(
            f"{path}: {expected.name} is {found.dtype} {found.shape}, expected "
            f"{expected.dtype} {expected.shape} by the file's own header"
        )
    properties = found.id.get_create_plist()
    if found.is_virtual or found.external or properties.get_layout() != h5py.h5d.CONTIGUOUS:
        raise CheckpointError(f"{path}: {expected.name} does not hold its own, contiguous data")
    if expected.nbytes > os.path.getsize(path):
        raise CheckpointError(f"{path}: {expected.name} is larger than the file")


def table_pieces(
    file: Any, header: Header, start: int, stop: int
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield the rows `start` ... `stop - 1` in bounded pieces: hashes, q, visits."""
    for at in range(start, stop, ROWS_PER_PIECE):
        rows = slice(at, min(stop, at + ROWS_PER_PIECE))
        q = file["table/q"][rows]
        if header.visits:
            visits = file["table/visits"][rows]
        else:
            visits = np.zeros((q.shape[0], 0), np.uint32)
        yield mix64.py_func(file["table/key"][rows]), q, visits


def verify(path: str | Path) -> tuple[Header, Digest]:
    """Check every byte of a checkpoint against its checksums, order and digest.

    Raises
    ------
    CheckpointError
        naming the dataset and the rows that are wrong.
    """
    with opened(path) as (file, header):
        _verify_extents(path, file, header)
        _verify_ranges(path, file, header)
        digest, last = Digest(), -1
        for hashes, q, visits in table_pieces(file, header, 0, header.rows):
            ascending = bool(np.all(hashes[1:] > hashes[:-1])) and int(hashes[0]) > last
            if not ascending:
                raise CheckpointError(f"{path}: table/key is not in the order of its hashes")
            last = int(hashes[-1])
            digest = digest.plus(digest_rows(hashes, q, visits))
        stored = Digest(*(int(value) for value in file["integrity/digest"][:]))
        if digest != stored:
            raise CheckpointError(f"{path}: the rows' digest is {digest}, the file says {stored}")
        return header, digest


def _verify_ranges(path: str | Path, file: Any, header: Header) -> None:
    """Check that every key and action is one: a kernel would use it as an index unchecked."""
    states = Codec(header.observation).size
    for name, bound in (
        ("table/key", states),
        ("environments/key", states),
        ("pending/key", states),
        ("environments/action", header.actions),
        ("pending/action", header.actions),
    ):
        dataset = file[name]
        for at in range(0, dataset.shape[0], ROWS_PER_PIECE):
            values = dataset[at : at + ROWS_PER_PIECE]
            if int(values.min()) < 0 or int(values.max()) >= bound:
                raise CheckpointError(f"{path}: {name} has a value outside 0 ... {bound - 1}")


def _verify_extents(path: str | Path, file: Any, header: Header) -> None:
    covered = {dataset.name: 0 for dataset in layout(header)}
    for record in file["integrity/extents"][:]:
        name, start, count = record["dataset"].decode(), int(record["start"]), int(record["count"])
        if covered.get(name) != start or start + count > file[name].shape[0]:
            raise CheckpointError(f"{path}: integrity/extents has a gap or overlap at {name}")
        rows = np.ascontiguousarray(file[name][start : start + count])
        if extent(name, start, rows)[3] != record["crc32"]:
            raise CheckpointError(
                f"{path}: {name}, rows {start} ... {start + count - 1}: wrong checksum, "
                "the file is damaged"
            )
        covered[name] = start + count
    for dataset in layout(header):
        if covered[dataset.name] != dataset.shape[0]:
            raise CheckpointError(f"{path}: integrity/extents does not cover {dataset.name}")


def find_row(file: Any, header: Header, hash_: int) -> int:
    """Return the index of the first row whose hash is not below `hash_`; binary search."""
    low, high = 0, header.rows
    keys = file["table/key"]
    while low < high:
        middle = (low + high) // 2
        if int(mix64.py_func(keys[middle : middle + 1])[0]) < hash_:
            low = middle + 1
        else:
            high = middle
    return low
