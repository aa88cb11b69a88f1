"""The leaves of a space: how integers, binned floats and digests become digits of a key.

Each class takes one observation at a time (`digits`, for clear messages) and many at once
(`append`, in a kernel); both give the same digits.
"""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.compiler import kernel
from hpcq.spaces.canonical import digest
from hpcq.spaces.discretise import FEW, bin_index, edges_of, middles_of, range_of, rounded_up

_INT64 = np.iinfo(np.int64)
MASK = (1 << 64) - 1
# Environments encoded together: their scratch array fits the first-level cache.
AT_ONCE = 512


@kernel
def _append_integers(
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    start: NDArray[np.int64],
    last: NDArray[np.uint64],
    count: NDArray[np.uint64],
) -> bool:
    """Append one digit per column; return whether all values are in the space.

    keys                uint64 (n,); modified
    values, start       int64 (n, k), (k,)
    last, count         uint64 (k,): largest digit, radix
    """
    for i in range(keys.size):
        key = keys[i]
        for j in range(start.size):
            digit = np.uint64(values[i, j]) - np.uint64(start[j])
            if digit > last[j]:
                return False
            key = key * count[j] + digit
        keys[i] = key
    return True


@kernel
def _append_bins(
    keys: NDArray[np.uint64],
    values: NDArray[np.floating],
    edges: NDArray[np.floating],
    offsets: NDArray[np.int64],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    count: NDArray[np.uint64],
    scratch: NDArray[np.uint32],
) -> int:
    """Append one digit per column; return how many values were clipped, -1 if one is not a number.

    values              float32 or float64 (k, n): one row for each column of digits
    edges, offsets      as values, int64 (k + 1,): column j has edges[offsets[j]:offsets[j + 1]]
    low, high, count    as values (k,), as values (k,), uint64 (k,)
    scratch             uint32 (AT_ONCE,)
    """
    clipped, wrong = 0, 0
    for start in range(0, keys.size, AT_ONCE):
        some = keys[start : start + AT_ONCE]
        for j in range(low.size):
            row = values[j, start : start + AT_ONCE]
            for i in range(some.size):
                wrong += np.isnan(row[i])
                clipped += (row[i] < low[j]) | (row[i] > high[j])
            if offsets[j + 1] - offsets[j] <= FEW:
                # Edge by edge over all environments: the inner loop vectorises.
                scratch[:] = 0
                for e in range(offsets[j], offsets[j + 1]):
                    edge = edges[e]
                    for i in range(some.size):
                        scratch[i] += np.uint32(edge <= row[i])
            else:
                inner = edges[offsets[j] : offsets[j + 1]]
                for i in range(some.size):
                    scratch[i] = np.uint32(bin_index(inner, row[i]))
            for i in range(some.size):
                some[i] = some[i] * count[j] + np.uint64(scratch[i])
    return -1 if wrong else clipped


def _named(place: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, place))}]" if place else ""


class Integers:
    """Discrete, MultiDiscrete, MultiBinary, or a Box of integers."""

    def __init__(self, description: dict[str, Any]) -> None:
        kind = description["kind"]
        self.scalar = kind == "Discrete"
        if kind == "Discrete":
            starts, counts = [description["start"]], [description["n"]]
            self.shape: tuple[int, ...] = ()
        elif kind == "MultiBinary":
            self.shape = tuple(description["shape"])
            counts = [2] * int(np.prod(self.shape))
            starts = [0] * len(counts)
        else:
            names = ("start", "nvec") if kind == "MultiDiscrete" else ("low", "high")
            self.shape = np.shape(description[names[0]])
            starts, counts = (
                [int(value) for value in np.array(description[name], object).ravel()]
                for name in names
            )
            if kind == "Box":
                counts = [high - low + 1 for low, high in zip(starts, counts, strict=True)]
        self.starts, self.counts = starts, counts
        ends = [start + count - 1 for start, count in zip(starts, counts, strict=True)]
        self._plain = all(_INT64.min <= value <= _INT64.max for value in (*starts, *ends))
        if self._plain:
            self._start = np.array(starts, np.int64)
            self._last = np.array([count - 1 for count in counts], np.uint64)
            self._count = np.array([count & MASK for count in counts], np.uint64)

    def digits(self, value: Any) -> list[int]:
        """Return the digits of one observation; ValueError for one outside the space."""
        if self.scalar:
            try:
                values = [int(value) if isinstance(value, np.bool_) else operator.index(value)]
            except TypeError:
                raise ValueError("expected an integer") from None
        else:
            array = np.asarray(value)
            if array.shape != self.shape or (array.dtype.kind not in "iub" and array.size):
                raise ValueError(
                    f"expected integers of shape {self.shape}, not {array.dtype} of {array.shape}"
                )
            values = [int(number) for number in array.ravel().tolist()]
        for number, start, count in zip(values, self.starts, self.counts, strict=True):
            if not start <= number < start + count:
                raise ValueError(f"{number} is not in {start} ... {start + count - 1}")
        return [number - start for number, start in zip(values, self.starts, strict=True)]

    def append(self, keys: NDArray[np.uint64], column: Any) -> int:
        """Append the digits of many observations; -1 if one is outside the space or unusual."""
        values = np.asarray(column)
        if values.shape != (keys.size, *self.shape) or values.dtype.kind not in "iub":
            return -1
        if not self._plain or (values.dtype == np.uint64 and values.max() > _INT64.max):
            return -1
        values = np.ascontiguousarray(values, np.int64).reshape(keys.size, -1)
        fine = _append_integers(keys, values, self._start, self._last, self._count)
        return 0 if fine else -1

    def rebuild(self, digits: Iterator[int]) -> Any:
        """Return the observation of some digits: an int, or an array."""
        values = [next(digits) + start for start in self.starts]
        return values[0] if self.scalar else np.array(values).reshape(self.shape)

    def columns(self, digits: Iterator[NDArray[np.uint64]]) -> Iterator[tuple[str, NDArray]]:
        """Yield (place, values) of every component, int64 or uint64, for columns of digits."""
        for place, start in zip(np.ndindex(*self.shape), self.starts, strict=True):
            values = next(digits) + np.uint64(start & MASK)
            yield _named(place), values.view(np.int64) if self._plain else values


class Bins:
    """A Box of floats with a dimension (see discretise.py) for every one."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.shape = tuple(description["shape"])
        self._dimensions = description["dimensions"]
        edges = [edges_of(dimension) for dimension in self._dimensions]
        self.counts = [part.size + 1 for part in edges]
        inner = np.concatenate(edges) if edges else np.zeros(0)
        self._offsets = np.concatenate([[0], np.cumsum([part.size for part in edges])]).astype(int)
        ranges = np.array([range_of(d) for d in self._dimensions], np.float64).reshape(-1, 2)
        self._low, self._high = np.ascontiguousarray(ranges.T)
        # float32 observations are compared as float32: twice as many in a vector register.
        self._bounds = {
            np.dtype(kind): (
                rounded_up(inner, kind),
                rounded_up(self._low, kind),
                -rounded_up(-self._high, kind),
            )
            for kind in (np.float32, np.float64)
        }
        self._count = np.array(self.counts, np.uint64)
        self._scratch = np.empty(AT_ONCE, np.uint32)
        self.clipped = 0
        """values that were outside their range, since the start"""

    def digits(self, value: Any) -> list[int]:
        """Return the bins of one observation; ValueError for a wrong shape, or NaN."""
        array = np.asarray(value)
        if array.shape != self.shape or array.dtype.kind not in "fiub":
            raise ValueError(
                f"expected numbers of shape {self.shape}, not {array.dtype} of {array.shape}"
            )
        numbers = array.astype(np.float64).ravel()
        if np.isnan(numbers).any():
            raise ValueError(f"component {int(np.flatnonzero(np.isnan(numbers))[0])} is NaN")
        self.clipped += int(((numbers < self._low) | (numbers > self._high)).sum())
        return [
            int(np.searchsorted(edges_of(dimension), number, "right"))
            for dimension, number in zip(self._dimensions, numbers, strict=True)
        ]

    def append(self, keys: NDArray[np.uint64], column: Any) -> int:
        """Append the digits of many observations; return how many values were clipped, or -1."""
        values = np.asarray(column)
        if values.shape != (keys.size, *self.shape) or values.dtype.kind not in "fiub":
            return -1
        kind = values.dtype if values.dtype in self._bounds else np.dtype(np.float64)
        rows = np.ascontiguousarray(values.reshape(keys.size, -1).T, kind)
        edges, low, high = self._bounds[kind]
        return _append_bins(keys, rows, edges, self._offsets, low, high, self._count, self._scratch)

    def rebuild(self, digits: Iterator[int]) -> NDArray[np.float64]:
        """Return an observation in the middle of its bins."""
        values = [middles[next(digits)] for middles in self._middles()]
        return np.array(values).reshape(self.shape)

    def columns(self, digits: Iterator[NDArray[np.uint64]]) -> Iterator[tuple[str, NDArray]]:
        """Yield (place, middles of bins) of every component, for columns of digits."""
        for place, middles in zip(np.ndindex(*self.shape), self._middles(), strict=True):
            yield _named(place), middles[next(digits)]

    def _middles(self) -> list[NDArray[np.float64]]:
        return [middles_of(dimension) for dimension in self._dimensions]


class Digest:
    """Any space: 64 bits of a digest. Two observations share a key with small probability."""

    counts = (1 << 64,)

    def __init__(self, description: dict[str, Any]) -> None:
        self._space = description["space"]

    def digits(self, value: Any) -> list[int]:
        """Return the digest of one observation; ValueError for one that is not of the space."""
        return [digest(self._space, value)]

    def append(self, keys: NDArray[np.uint64], column: Any) -> int:
        """Append the digests of many observations."""
        keys[:] = [digest(self._space, value) for value in column]
        return 0

    def rebuild(self, digits: Iterator[int]) -> str:
        """Return the key as text: a digest has no inverse."""
        return f"digest {next(digits):016x}"

    def columns(self, digits: Iterator[NDArray[np.uint64]]) -> Iterator[tuple[str, NDArray]]:
        """Yield nothing: a digest has no inverse."""
        next(digits)
        return iter(())


def leaf(description: dict[str, Any]) -> Integers | Bins | Digest:
    """Return the leaf that a description without parts stands for."""
    if description["kind"] == "Digest":
        return Digest(description)
    return Bins(description) if "dimensions" in description else Integers(description)
