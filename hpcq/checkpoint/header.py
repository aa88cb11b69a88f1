"""What is in a checkpoint: the datasets, the attributes, the extents.

    /table/key      u8 (n)       state keys, in the order of their hashes
    /table/q        f4|f8 (n, A) action values; (n, T, A) where the rule keeps T > 1 tables
    /table/visits   u4, as q     updates so far; only where learning rate or policy needs them
    /table/mask     u8 (n)       legal actions as a bitset; only where the environment has masks;
                                 (n, W) of W = ceil(A / 64) words where there are several
    /table/intervals f8 (n, A, 4) the sums of averages, see learning/intervals.py; only where kept
    /environments/* (N)          what each environment is doing, in environment order
    /pending/*      (N)          the update that each environment has not sent yet
    /windows/*      (N, n)       its last n transitions, where returns have several steps
    /replay/*       (N, C)       its ring of transitions, (N, R) its replayed updates not sent yet
    /local/*                     periodic mode: the states that each rank holds beside its own rows
    /integrity/extents           (dataset, start, count, crc32), covering all of the above
    /integrity/digest u8 (3)     rows and two sums over rows, see digest.py

All rows are contiguous, little-endian and unfiltered. All but table and integrity is declared
beside the arrays, see learning/saved_state.py.

Format 3 is format 2 with the attribute `combine`, and is written only where that is not "mean".
Format 4 has `solution`, too, and is written only for tables of `hpcq solve`. Format 5 is format 4
with masks of several words: those datasets have a dimension more. It is written for these alone.
Format 6 has `table/intervals`, too, and is written for these alone.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.checksum import crc32
from hpcq.learning.intervals import SUMS
from hpcq.learning.saved_state import FIELDS
from hpcq.spaces.masks import MOST_ACTIONS, shape_of, words_of
from hpcq.table.combine import COMBINATIONS, MAX_TABLES

FORMATS = (2, 3, 4, 5, 6)

_JSON = ("observation", "action", "versions", "extra", "progress", "solution")

# The attributes that older formats do not have, and since when there are.
_SINCE = {"combine": 3, "solution": 4}

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
    """what the numbers of actions mean, see spaces/actions.py"""
    tick: int
    step: int
    rows: int
    dtype: str
    visits: bool
    environments: int
    ranks: int
    """of the run that wrote the file; nothing in it depends on them, but in periodic mode"""
    tables: int
    """action values of every (state, action): 2 for double Q-learning"""
    masks: bool
    """whether the environment says which actions are legal"""
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, list[int]] = field(default_factory=dict)
    """the shapes of the datasets that not every job has"""
    progress: dict[str, Any] = field(default_factory=dict)
    """state of the stopping criteria, see learning/progress.py"""
    combine: str = "mean"
    """what the policy acts on where there are several tables: their mean, or their minimum"""
    solution: dict[str, Any] = field(default_factory=dict)
    """of a solved table: how far it has come and what is proven, see solver/solved.py"""

    @property
    def format(self) -> int:
        """Version of the file's format: the oldest one that holds these values."""
        if self.intervals:
            return 6
        if words_of(self.actions, self.masks) > 1:
            return 5
        if self.solution:
            return 4
        return 2 if self.combine == "mean" else 3

    @property
    def intervals(self) -> bool:
        """Whether there are averages and intervals of values."""
        return "table/intervals" in self.extra

    @property
    def reward_rate(self) -> float:
        """The mean reward that was subtracted from rewards; 0 where they were not centred."""
        rate = self.progress.get("reward_rate")
        return float(rate) if isinstance(rate, int | float) else 0.0

    def shift(self, gamma: float) -> float:
        """Return what has to be added to the values in the file; with gamma = 1, nothing.

        Naik, Wan, Tomar, Sutton, "Reward Centering", 2024 (arXiv 2405.09999).
        """
        return self.reward_rate / (1.0 - gamma) if gamma < 1.0 else 0.0

    @staticmethod
    def names(format_: int) -> set[str]:
        """Return the names of the attributes of a file of a format, `complete` aside."""
        later = {name for name, since in _SINCE.items() if format_ < since}
        return {*Header.__annotations__, "format", "crc32"} - later

    def attributes(self) -> dict[str, Any]:
        """Return HDF5 attributes: numbers and text, nested values as JSON, and a checksum."""
        values = asdict(self)
        for name in _JSON:
            values[name] = json.dumps(values[name], sort_keys=True)
        added = {name: values.pop(name) for name in _SINCE}
        values["format"] = self.format
        names = self.names(self.format)
        values |= {name: value for name, value in added.items() if name in names}
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
        for name in cls.names(attributes["format"]) & cls.__annotations__.keys():
            kind, value = cls.__annotations__[name], attributes[name]
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
        header.check()
        if header.format != attributes["format"]:
            raise ValueError(
                f"format {attributes['format']}, but it holds what is of {header.format}"
            )
        if header.attributes()["crc32"] != attributes["crc32"]:
            raise ValueError("wrong checksum of the attributes, the file is damaged")
        return header

    def check(self) -> None:
        """Raise a ValueError if a value is outside its range."""
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype {self.dtype!r}, expected float32 or float64")
        if self.combine not in COMBINATIONS:
            raise ValueError(f"combine is {self.combine!r}, expected {' or '.join(COMBINATIONS)}")
        for name, least in (("rows", 0), ("actions", 1), ("environments", 1), ("tick", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not 1 <= self.tables <= MAX_TABLES:
            raise ValueError(f"tables is {self.tables}, expected 1 ... {MAX_TABLES}")
        if self.masks and self.actions > MOST_ACTIONS:
            raise ValueError(f"masks of {self.actions} actions, expected at most {MOST_ACTIONS}")
        if self.solution:
            _check_solution(self.solution)
        for name, shape in self.extra.items():
            sizes = isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)
            if name not in FIELDS or not FIELDS[name].needs or not sizes or not shape:
                raise ValueError(f"extra has {name!r} of shape {shape!r}")
        sums = [self.rows, self.actions, SUMS]
        if self.intervals and (self.extra["table/intervals"] != sums or self.tables > 1):
            raise ValueError(f"intervals of shape {self.extra['table/intervals']}, not {sums}")


# Of a solved table, see solver/solved.py.
_SOLUTION = {
    "sweeps": int,
    "evaluations": int,
    "bound": float | None,
    "why_not": str,
    "done": bool,
    "start": float | None,
}
# Not in every one.
_MORE = {"spread": float, "still": int, "rate": float, "rate_bound": float}


def _check_solution(solution: dict[str, Any]) -> None:
    kinds = _SOLUTION | _MORE
    if not _SOLUTION.keys() <= solution.keys() <= kinds.keys():
        raise ValueError(f"solution has {sorted(solution)}, expected {sorted(_SOLUTION)}")
    for name, value in solution.items():
        if not isinstance(value, kinds[name]):
            raise ValueError(f"solution has {name} = {value!r}")


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
        mask = shape_of(words_of(header.actions))
        table.append(Dataset("table/mask", np.dtype("u8"), (header.rows, *mask)))
    always = [name for name, field_ in FIELDS.items() if not field_.needs]
    shapes = {name: [header.environments] for name in always} | header.extra
    return table + [
        Dataset(name, np.dtype(FIELDS[name].dtype), tuple(shape)) for name, shape in shapes.items()
    ]


def integrity(extents: int) -> list[Dataset]:
    """Return the datasets that hold the checksums of so many extents, and the digest."""
    return [
        Dataset("integrity/extents", EXTENT, (extents,)),
        Dataset("integrity/digest", np.dtype("u8"), (3,)),
    ]


def extent(name: str, start: int, rows: NDArray) -> tuple[bytes, int, int, int]:
    """Return the integrity record of contiguous `rows` that stand at `start` of a dataset."""
    return name.encode(), start, rows.shape[0], crc32(rows.data.cast("B"))
