"""Observation <-> state key: one mixed-radix number, a bijection onto 0 ... size - 1.

A space is a tree; its leaves, in order, are the digits of the key, the first leaf the most
significant (see leaves.py). Tuples keep their order, Dicts go by sorted keys. The description of
a space is plain JSON, so that a checkpoint's keys can be decoded without Gymnasium and without
importing anything it names.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.spaces.discretise import discretised
from hpcq.spaces.leaves import Bins, leaf
from hpcq.spaces.spaces import describe as describe_space
from hpcq.spaces.spaces import item

_WITHOUT_KEY = ("Text", "Sequence", "Graph", "OneOf")


def describe(space: Any, discretise: Any = None, codec: str = "exact") -> dict[str, Any]:
    """Return how the observations of a Gymnasium space become keys, as JSON for a `Codec`.

    Parameters
    ----------
    discretise
        the job's [environment.discretise], for spaces with floats.
    codec
        "exact": a bijection; "digest": 64 bits of a digest, for any space.

    Raises
    ------
    JobError
        for a space without such a code, or with more than 2**64 states.
    """
    try:
        description = describe_space(space)
        if codec == "digest":
            if discretise is not None:
                raise JobError("environment.discretise is given, but codec = 'digest'")
            return {"kind": "Digest", "space": description}
        unfit = _find_kind(description, _WITHOUT_KEY)
        if unfit:
            raise JobError(f"{unfit} has no finite number of values; use codec = 'digest'")
        description = discretised(description, discretise)
        Codec(description)
    except JobError as error:
        raise JobError(f"observation space {_short(space)}: {error}") from None
    return description


def _short(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _find_kind(description: dict[str, Any], kinds: tuple[str, ...]) -> str | None:
    if description["kind"] in kinds:
        return description["kind"]
    parts = description.get("spaces", [])
    for part in parts.values() if isinstance(parts, dict) else parts:
        if found := _find_kind(part, kinds):
            return found
    return None


def _leaves(description: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, description) of every leaf, in the order of `_parts`."""
    if description["kind"] == "Tuple":
        for i, part in enumerate(description["spaces"]):
            yield from _leaves(part, f"{path}[{i}]")
    elif description["kind"] == "Dict":
        for name in sorted(description["spaces"]):
            yield from _leaves(description["spaces"][name], f"{path}[{name!r}]")
    else:
        yield path, description


def _parts(description: dict[str, Any], value: Any, out: list[Any]) -> None:
    """Append the value of each leaf of one observation, or of a VectorEnv's batch of them."""
    if description["kind"] == "Tuple":
        parts = description["spaces"]
        if not isinstance(value, tuple | list | np.ndarray) or len(value) != len(parts):
            raise ValueError(f"expected a tuple of {len(parts)}")
        for part, inner in zip(parts, value, strict=True):
            _parts(part, inner, out)
    elif description["kind"] == "Dict":
        spaces = description["spaces"]
        if not isinstance(value, dict):
            raise ValueError(f"expected a dict with {', '.join(map(repr, sorted(spaces)))}")
        for wrong in sorted(spaces.keys() ^ value.keys(), key=str):
            raise ValueError(f"{'missing' if wrong in spaces else 'unexpected'} key {wrong!r}")
        for name in sorted(spaces):
            _parts(spaces[name], value[name], out)
    else:
        out.append(value)


def _rebuild(description: dict[str, Any], leaves: Iterator[Any], digits: Iterator[int]) -> Any:
    if description["kind"] == "Tuple":
        return tuple(_rebuild(part, leaves, digits) for part in description["spaces"])
    if description["kind"] == "Dict":
        spaces = description["spaces"]
        return {name: _rebuild(spaces[name], leaves, digits) for name in sorted(spaces)}
    return next(leaves).rebuild(digits)


class Codec:
    """The map from the observations of one space to the keys 0 ... `size` - 1.

    Parameters
    ----------
    description
        a space as `describe` gives it.

    Raises
    ------
    JobError
        for a space of more than 2**64 states.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        leaves = list(_leaves(description))
        self._paths = [path for path, _ in leaves]
        self._leaves = [leaf(part) for _, part in leaves]
        self._single = description["kind"] not in ("Tuple", "Dict")
        self._counts = [count for part in self._leaves for count in part.counts]
        exponent = sum(math.log10(count) for count in self._counts)
        self.size = math.prod(self._counts) if exponent < 30 else 1 << 99
        if self.size > 1 << 64:
            raise JobError(
                f"it has about 10^{math.floor(exponent)} states, more than the 2**64 keys; "
                "leave out what the agent does not need (a Gymnasium wrapper), use "
                "fewer bins, or codec = 'digest'"
            )

    @property
    def clipped(self) -> int:
        """Floats encoded so far that were outside their range."""
        return sum(part.clipped for part in self._leaves if isinstance(part, Bins))

    def encode(self, observation: Any) -> int:
        """Return the key of an observation; ``np.int64(3)``, ``3`` and ``True`` are numbers.

        Raises
        ------
        ValueError
            for an observation outside the space.
        """
        parts: list[Any] = []
        _parts(self.description, observation, parts)
        digits: list[int] = []
        for path, part, value in zip(self._paths, self._leaves, parts, strict=True):
            try:
                digits += part.digits(value)
            except ValueError as error:
                raise ValueError(f"{path}: {error}" if path else str(error)) from None
        key = 0
        for digit, count in zip(digits, self._counts, strict=True):
            key = key * count + digit
        return key

    def encode_all(self, observations: list[Any]) -> NDArray[np.uint64] | None:
        """Return the keys of many observations, uint64 (n,), or None.

        None: some are of an unusual form, or outside the space. Then `encode` takes them one at a
        time, and finds the one that is outside.
        """
        if self._single:
            return self._encode(len(observations), [observations])
        rows: list[list[Any]] = []
        try:
            for observation in observations:
                rows.append([])
                _parts(self.description, observation, rows[-1])
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None
        return self._encode(len(rows), list(zip(*rows, strict=True)))

    def encode_batch(self, batch: Any, count: int) -> NDArray[np.uint64] | None:
        """Return the keys of a VectorEnv's batch of `count` observations; None as `encode_all`."""
        columns: list[Any] = []
        try:
            if self.description["kind"] == "Digest":
                columns = [[self.item(batch, i) for i in range(count)]]
            else:
                _parts(self.description, batch, columns)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None
        return self._encode(count, columns)

    def item(self, batch: Any, i: int) -> Any:
        """Return observation `i` of a VectorEnv's batch."""
        digest = self.description["kind"] == "Digest"
        return item(self.description["space"] if digest else self.description, batch, i)

    def _encode(self, count: int, columns: list[Any]) -> NDArray[np.uint64] | None:
        keys = np.zeros(count, np.uint64)
        if count == 0:
            return keys
        clipped = []
        try:
            for part, column in zip(self._leaves, columns, strict=True):
                clipped.append(part.append(keys, column))
                if clipped[-1] < 0:
                    return None
        except KeyboardInterrupt:
            raise
        except BaseException:
            # An observation's conversion may raise anything.
            return None
        for part, n in zip(self._leaves, clipped, strict=True):
            if isinstance(part, Bins):
                part.clipped += n
        return keys

    def decode(self, key: int) -> Any:
        """Return the observation of a key: int, array, tuple or dict.

        Of floats it is the middle of their bins, of a digest the key as text.
        """
        if not 0 <= key < self.size:
            raise ValueError(f"key {key} is not in 0 ... {self.size - 1}")
        digits = []
        for count in reversed(self._counts):
            key, digit = divmod(key, count)
            digits.append(digit)
        return _rebuild(self.description, iter(self._leaves), reversed(digits))

    def columns(self, keys: NDArray[np.uint64]) -> dict[str, NDArray]:
        """Return every number of many observations, (n,) each, by its path in the observation.

        Of floats it is the middle of their bins; of a digest there is none.
        """
        digits, rest = [], keys
        for count in reversed(self._counts):
            if count == 1 << 64:
                digits.append(rest)
                continue
            rest, digit = np.divmod(rest, np.uint64(count))
            digits.append(digit)
        columns = iter(digits[::-1])
        return {
            path + name: values
            for path, part in zip(self._paths, self._leaves, strict=True)
            for name, values in part.columns(columns)
        }
