"""Check every byte of a checkpoint: against its checksums, its order, its ranges and its digest.

Ranks that start from a checkpoint check a part of it each: that of one rank would keep the others
waiting.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.checksum import crc32
from hpcq.checkpoint.header import Header, layout
from hpcq.checkpoint.reader import Columns, Rows, opened, stored_pieces
from hpcq.errors import CheckpointError, HpcqError
from hpcq.hashing import hashes_of
from hpcq.learning.saved_state import FIELDS
from hpcq.printable import printable
from hpcq.spaces.codec import Codec
from hpcq.table.digest import Digest, digest_rows

if TYPE_CHECKING:
    from mpi4py import MPI


def verify(path: str | Path, found: dict[str, Any] | None = None) -> tuple[Header, Digest]:
    """Check every byte of a checkpoint.

    Parameters
    ----------
    found
        see `opened`.

    Raises
    ------
    CheckpointError
        naming the dataset and the rows that are wrong.
    UnreadableError, DependencyError
        if it could not be looked into.
    """
    header, digest, stored = _verify_part(path, found, 0, 1)
    _compare(path, digest, stored)
    return header, digest


def verify_together(
    comm: "MPI.Intracomm", path: Path, found: dict[str, Any]
) -> tuple[Header, Digest]:
    """Check every byte of a checkpoint that all ranks see, a part on each rank. Collective.

    Raises
    ------
    CheckpointError, UnreadableError
        as `verify`, on all ranks.
    """
    mine: tuple[Header, Digest, Digest] | HpcqError
    try:
        mine = _verify_part(path, found, comm.rank, comm.size)
    except HpcqError as error:
        mine = error
    digest = Digest()
    parts = comm.allgather(mine if isinstance(mine, HpcqError) else mine[1])
    for part in parts:
        if isinstance(part, HpcqError):
            raise part.on_all_ranks()
        digest = digest.plus(part)
    assert not isinstance(mine, HpcqError)
    header, _, stored = mine
    try:
        _compare(path, digest, stored)
    except CheckpointError as error:
        raise error.on_all_ranks() from None
    return header, digest


def _compare(path: str | Path, digest: Digest, stored: Digest) -> None:
    if digest != stored:
        raise CheckpointError(f"{path}: the rows' digest is {digest}, the file says {stored}")


def _verify_part(
    path: str | Path, found: dict[str, Any] | None, part: int, parts: int
) -> tuple[Header, Digest, Digest]:
    """Check a part of a file; return its header, the digest of the part, and that of the file."""
    with opened(path, found) as (file, header):
        _verify_extents(path, file, header, part, parts)
        _verify_ranges(path, file, header, part, parts)
        start, stop = _share(header.rows, part, parts)
        digest, last = Digest(), -1
        if start > 0:
            last = int(hashes_of(file["table/key"][start - 1 : start])[0])
        for hashes, q, visits, _ in stored_pieces(file, header, start, stop):
            ascending = bool(np.all(hashes[1:] > hashes[:-1])) and int(hashes[0]) > last
            if not ascending:
                raise CheckpointError(f"{path}: table/key is not in the order of its hashes")
            last = int(hashes[-1])
            digest = digest.plus(digest_rows(hashes, q, visits))
        return header, digest, Digest(*(int(value) for value in file["integrity/digest"][:]))


def _share(rows: int, part: int, parts: int) -> tuple[int, int]:
    """Return the first row of a part, and the one behind its last."""
    return rows * part // parts, rows * (part + 1) // parts


def _verify_ranges(path: str | Path, file: Columns, header: Header, part: int, parts: int) -> None:
    """Check that keys, actions and counts are in range: kernels use them as unchecked indices."""
    states, columns = Codec(header.observation).size, header.tables * header.actions
    steps = header.extra.get("windows/key", [0])[-1]
    bounds = {
        "states": states,
        "actions": header.actions,
        "offsets": columns - header.actions + 1,
        "lengths": steps + 1,
        "columns": columns,
        "counts": 1 << 62,
    }
    checked = {"table/key": "states"}
    checked |= {name: field.bound for name, field in FIELDS.items() if field.bound and name in file}
    for name, kind in checked.items():
        bound = bounds[kind]
        for values in file[name].pieces(*_share(file[name].shape[0], part, parts)):
            if int(values.min()) < 0 or int(values.max()) >= bound:
                raise CheckpointError(f"{path}: {name} has a value outside 0 ... {bound - 1}")
    if part == 0 and "windows/due" in file and "windows/length" in file:
        length, due = file["windows/length"], file["windows/due"]
        if length.shape != due.shape or bool((due[:] > length[:]).any()):
            raise CheckpointError(f"{path}: windows/due exceeds windows/length")


def _verify_extents(path: str | Path, file: Columns, header: Header, part: int, parts: int) -> None:
    """Check that the extents cover every dataset, and the checksums of those of a part."""
    covered = {dataset.name: 0 for dataset in layout(header)}
    extents: list[tuple[Rows, str, NDArray]] = []
    for record in file["integrity/extents"][:]:
        name = printable(record["dataset"].decode(errors="replace"))
        start, count = int(record["start"]), int(record["count"])
        if covered.get(name) != start or start + count > file[name].shape[0]:
            raise CheckpointError(f"{path}: integrity/extents has a gap or overlap at {name}")
        extents.append((file[name], name, record))
        covered[name] = start + count
    for dataset in layout(header):
        if covered[dataset.name] != dataset.shape[0]:
            raise CheckpointError(f"{path}: integrity/extents does not cover {dataset.name}")
    for rows, name, record in _extents_of(part, parts, extents):
        start, count, crc = int(record["start"]), int(record["count"]), 0
        for piece in rows.pieces(start, start + count):
            crc = crc32(piece.data.cast("B"), crc)
        if crc != record["crc32"]:
            raise CheckpointError(
                f"{path}: {name}, rows {start} ... {start + count - 1}: wrong checksum, "
                "the file is damaged"
            )


def _extents_of(
    part: int, parts: int, extents: list[tuple[Rows, str, NDArray]]
) -> list[tuple[Rows, str, NDArray]]:
    """Return the extents of a part: each, the largest first, goes to the part with the least."""
    nbytes = [0] * parts
    mine = []
    for extent in sorted(extents, key=lambda one: -_nbytes(one)):
        least = nbytes.index(min(nbytes))
        nbytes[least] += _nbytes(extent)
        if least == part:
            mine.append(extent)
    return mine


def _nbytes(extent: tuple[Rows, str, NDArray]) -> int:
    rows, _, record = extent
    return int(record["count"]) * rows.row_bytes
