"""Check the structure of a checkpoint; find where its datasets begin in the file.

HDF5 can crash, hang, or ask for all memory on damaged metadata. So this runs in a child process
(see `sandbox.py`), and it is the only place where hpcq opens an untrusted file with HDF5: rows are
then read as plain numbers at these places.
"""

import os
from typing import Any

import numpy as np

from hpcq.checkpoint.h5 import h5py
from hpcq.checkpoint.header import FORMATS, Dataset, Header, integrity, layout
from hpcq.errors import FormatError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_EXTENTS = 1 << 24
_SCALARS = (h5py.h5t.INTEGER, h5py.h5t.STRING, h5py.h5t.ENUM)


def describe(path: str) -> dict[str, Any]:
    """Return {"attributes": ..., "places": {dataset: [offset, rows]}} of a checkpoint.

    Raises
    ------
    FormatError
        if the file is of another version.
    ValueError
        naming any other fault.
    """
    with open(path, "rb") as raw:
        if raw.read(len(_SIGNATURE)) != _SIGNATURE:
            raise ValueError("not a readable HDF5 file: it does not begin as one")
    with h5py.File(path, "r") as file:
        attributes = _attributes(file)
        header = Header.from_attributes(attributes)
        extents = _get(file, "integrity/extents").shape
        if len(extents) != 1 or extents[0] > _MOST_EXTENTS:
            raise ValueError(f"integrity/extents has the shape {extents}")
        datasets = layout(header) + integrity(extents[0])
        _check_members(file, [dataset.name for dataset in datasets])
        size = os.path.getsize(path)
        places = {d.name: [_place(file, d, size), d.shape[0]] for d in datasets}
    return {"attributes": attributes, "places": places}


def _attributes(file: Any) -> dict[str, Any]:
    """Return the attributes of the root group: exactly those that belong there, plain scalars."""
    # h5py returns a name that is not UTF-8 as bytes.
    found = {name: h5py.h5a.open(file.id, str(name).encode()) for name in file.attrs}
    if "format" not in found or "complete" not in found:
        raise ValueError("not a complete hpcq checkpoint")
    for name, attribute in found.items():
        kind = attribute.get_type().get_class()
        if attribute.shape != () or kind not in _SCALARS:
            raise ValueError(f"attribute {name} is not a number or a text")
    if file.attrs["format"] not in FORMATS:
        raise FormatError(
            f"checkpoint format {file.attrs['format']}, this hpcq reads {FORMATS[0]} to "
            f"{FORMATS[-1]}; "
            "use the version of hpcq that wrote it"
        )
    if not file.attrs["complete"]:
        raise ValueError("not a complete hpcq checkpoint: its writing was interrupted")
    expected = Header.names(file.attrs["format"]) | {"complete"}
    if unknown := sorted(found.keys() ^ expected):
        raise ValueError(f"attribute {unknown[0]} is missing, or does not belong there")
    values = {name: file.attrs[name] for name in expected}
    for name, value in values.items():
        if not isinstance(value, (str, np.integer, np.bool_)):
            raise ValueError(f"attribute {name} is a {type(value).__name__}")
        if isinstance(value, str):
            value.encode()
    return {name: v if isinstance(v, str) else v.item() for name, v in values.items()}


def _get(file: Any, name: str) -> Any:
    """Return a dataset that is reached by hard links alone."""
    place = file
    for part in name.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is missing, or is a link to elsewhere")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise ValueError(f"{name} is not a dataset")
    return place


def _check_members(file: Any, names: list[str]) -> None:
    """Refuse groups that hold anything but the datasets `names`."""
    groups: dict[str, set[str]] = {"/": {name.split("/")[0] for name in names}}
    for name in names:
        _get(file, name)
        group, _, member = name.rpartition("/")
        groups.setdefault(group, set()).add(member)
    for group, members in groups.items():
        if len(file[group]) > len(members):
            raise ValueError(f"group {group} holds more than {', '.join(sorted(members))}")


def _place(file: Any, expected: Dataset, size: int) -> int:
    """Return where a dataset's bytes begin in the file of `size` bytes."""
    name, found = expected.name, _get(file, expected.name)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(
            f"{name} is {found.dtype} {found.shape}, expected "
            f"{expected.dtype} {expected.shape} by the file's own header"
        )
    properties = found.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count():
        raise ValueError(f"{name} does not hold its own, contiguous data")
    if expected.nbytes == 0:
        return 0
    offset = found.id.get_offset()
    if offset is None or offset + expected.nbytes > size:
        raise ValueError(f"{name} reaches beyond the end of the file")
    return int(offset)
