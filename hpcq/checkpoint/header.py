"""What is in a checkpoint: the datasets, the attributes, the extents.

    /table/key      u8 (n)       state keys, in the order of their hashes
    /table/q        f4|f8 (n, A) action values; (n, 2, A) where the rule keeps two tables
    /table/visits   u4, as q     updates so far; only where learning rate or policy needs them
    /table/mask     u8 (n)       legal actions as a bitset; only where the environment tells them
    /environments/* (N)          what each environment is doing, in environment order
    /pending/*      (N)          the update that each environment has not sent yet
    /windows/*      (N, n)       its last n transitions, where returns have several steps
    /replay/*       (N, C)       its ring of transitions, (N, R) its replayed updates not sent yet
    /local/*                     periodic mode: the states that each rank holds beside its own rows
    /integrity/extents           (dataset, start, count, crc32), covering all of the above
    /integrity/digest u8 (3)     rows and two sums over rows, see digest.py

All rows are contiguous, little-endian and unfiltered.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.checksum import crc32

FORMAT = 2

ENVIRONMENTS = {
    "environments/key": ("hash", "u8"),
    "environments/action": ("action", "i8"),
    "environments/elapsed": ("elapsed", "i4"),
    "environments/episode_return": ("episode_return", "f8"),
    "environments/episodes": ("episodes", "i8"),
    "pending/present": ("update_pending", "u1"),
    "pending/key": ("update_hash", "u8"),
    "pending/action": ("update_action", "u4"),
    "pending/target": ("update_target", "f8"),
}
# Of every environment, too: where legal actions are told, and where returns have several steps.
MASKS = {"environments/mask": "mask", "pending/mask": "update_mask"}
WINDOWS = {
    "windows/key": "hash",
    "windows/action": "action",
    "windows/reward": "reward",
    "windows/value": "value",
    "windows/target": "target",
    "windows/mask": "mask",
    "windows/length": "length",
    "windows/due": "due",
    "windows/offset": "offset",
}
# Of every environment, too: its ring of transitions, and the replayed updates not sent yet.
RINGS = {
    "replay/key": "hash",
    "replay/action": "action",
    "replay/reward": "reward",
    "replay/next": "next",
    "replay/terminated": "terminated",
    "replay/mask": "mask",
    "replay/next_mask": "next_mask",
    "replay/count": "added",
}
PENDING = {
    "replay/pending_present": "update_pending",
    "replay/pending_key": "update_hash",
    "replay/pending_action": "update_action",
    "replay/pending_target": "update_target",
    "replay/pending_mask": "update_mask",
    "replay/pending_weight": "update_weight",
}
# Where replay is prioritised: the priorities, and the numbers of the transitions of all updates
# not sent yet, the live one first.
PRIORITIES = {"replay/priority": "value", "replay/pending_number": "pending"}
# What a rule or a mode saves beside the rest, and what its values must stay below: states, actions,
# lengths of windows, offsets of tables in a row, its columns, counts, or nothing in particular. The
# rows of all ranks follow each other in rank order.
EXTRAS = {
    "environments/mask": ("u8", ""),
    "pending/mask": ("u8", ""),
    "windows/key": ("u8", "states"),
    "windows/action": ("u4", "actions"),
    "windows/reward": ("f8", ""),
    "windows/value": ("f8", ""),
    "windows/target": ("f8", ""),
    "windows/mask": ("u8", ""),
    "windows/length": ("u4", "lengths"),
    "windows/due": ("u4", "lengths"),
    "windows/offset": ("u4", "offsets"),
    "replay/key": ("u8", "states"),
    "replay/action": ("u4", "actions"),
    "replay/reward": ("f8", ""),
    "replay/next": ("u8", "states"),
    "replay/terminated": ("u1", ""),
    "replay/mask": ("u8", ""),
    "replay/next_mask": ("u8", ""),
    "replay/count": ("i8", "counts"),
    "replay/pending_present": ("u1", ""),
    "replay/pending_key": ("u8", "states"),
    "replay/pending_action": ("u4", "columns"),
    "replay/pending_target": ("f8", ""),
    "replay/pending_mask": ("u8", ""),
    "replay/pending_weight": ("f8", ""),
    "replay/priority": ("u4", ""),
    "replay/pending_number": ("i8", "counts"),
    "local/count": ("u8", ""),
    "local/key": ("u8", "states"),
}
_JSON = ("observation", "action", "versions", "extra", "progress")

EXTENT = np.dtype([("dataset", "S32"), ("start", "u8"), ("count", "u8"), ("crc32", "u4")])


@dataclass(frozen=True)
class Dataset:
    """Name, element type and shape of one dataset."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.row_bytes * self.shape[0]


@dataclass(frozen=True)
class Header:
    """The attributes of the root group: what the file is and where it comes from.

    Beside them stand `crc32`, their checksum, and `complete`, set when all else is on the disk.
    """

    job: str
    """the effective job, JSON"""
    environment: str
    observation: dict[str, Any]
    """the observation space, see codec.py"""
    actions: int
    action: dict[str, Any]
    """what their numbers stand for, see spaces/actions.py"""
    tick: int
    step: int
    rows: int
    dtype: str
    visits: bool
    environments: int
    ranks: int
    """of the run that wrote the file; readers need not care"""
    tables: int
    """action values of every (state, action): 2 for double Q-learning"""
    masks: bool
    """whether the environment tells the legal actions"""
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, list[int]] = field(default_factory=dict)
    """the shapes of the datasets of `EXTRAS` that are there"""
    progress: dict[str, Any] = field(default_factory=dict)
    """what decides when the run ends, see learning/progress.py"""
    format: int = FORMAT

    def attributes(self) -> dict[str, Any]:
        """Return HDF5 attributes: numbers and text, nested values as JSON, and a checksum."""
        values = asdict(self)
        for name in _JSON:
            values[name] = json.dumps(values[name], sort_keys=True)
        return {**values, "crc32": crc32(json.dumps(values, sort_keys=True).encode())}

    @classmethod
    def from_attributes(cls, attributes: Any) -> "Header":
        """Read the attributes back.

        Raises
        ------
        KeyError, TypeError, ValueError
            if one is missing or of the wrong type.
        """
        values: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            value = attributes[name]
            if name in _JSON:
                value = json.loads(value)
                if not isinstance(value, dict):
                    raise TypeError(f"{name} is not a JSON object")
            else:
                if np.ndim(value) != 0 or isinstance(value, str) != (kind is str):
                    raise TypeError(f"{name} is not {kind.__name__}")
                value = kind(value)
            values[name] = value
        header = cls(**values)
        if header.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype {header.dtype!r}, expected float32 or float64")
        for name, least in (("rows", 0), ("actions", 1), ("environments", 1), ("tick", 0)):
            if values[name] < least:
                raise ValueError(f"{name} is {values[name]}, expected at least {least}")
        if header.tables not in (1, 2):
            raise ValueError(f"tables is {header.tables}, expected 1 or 2")
        for name, shape in header.extra.items():
            sizes = isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)
            if name not in EXTRAS or not sizes or not shape:
                raise ValueError(f"extra has {name!r} of shape {shape!r}")
        if header.attributes()["crc32"] != attributes["crc32"]:
            raise ValueError("wrong checksum of the attributes, the file is damaged")
        return header


def layout(header: Header) -> list[Dataset]:
    """Return the datasets of a file with this header."""
    shape: tuple[int, ...] = (header.rows, header.actions)
    if header.tables > 1:
        shape = (header.rows, header.tables, header.actions)
    table = [
        Dataset("table/key", np.dtype("u8"), (header.rows,)),
        Dataset("table/q", np.dtype(header.dtype), shape),
    ]
    if header.visits:
        table.append(Dataset("table/visits", np.dtype("u4"), shape))
    if header.masks:
        table.append(Dataset("table/mask", np.dtype("u8"), (header.rows,)))
    return (
        table
        + [
            Dataset(name, np.dtype(dtype), (header.environments,))
            for name, (_, dtype) in ENVIRONMENTS.items()
        ]
        + [
            Dataset(name, np.dtype(EXTRAS[name][0]), tuple(shape))
            for name, shape in header.extra.items()
        ]
    )


def integrity(extents: int) -> list[Dataset]:
    """Return the datasets that hold the checksums of so many extents, and the digest."""
    return [
        Dataset("integrity/extents", EXTENT, (extents,)),
        Dataset("integrity/digest", np.dtype("u8"), (3,)),
    ]


def extent(name: str, start: int, rows: NDArray) -> tuple[bytes, int, int, int]:
    """Return the integrity record of contiguous `rows` that stand at `start` of a dataset."""
    return name.encode(), start, rows.shape[0], crc32(rows.data.cast("B"))
