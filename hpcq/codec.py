"""Observation <-> state key: one mixed-radix number, a bijection onto 0 ... size - 1.

A space is a tree whose leaves are Discrete. The leaves, in order, are the digits of the key,
the first leaf the most significant. The description of a space is plain JSON, so that a
checkpoint's keys can be decoded without Gymnasium and without importing anything it names.
"""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.hashing import MASK


def describe(space: Any) -> dict[str, Any]:
    """Return a Gymnasium space as JSON.

    Raises
    ------
    JobError
        for a space without a bijective code.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        nvec = np.asarray(space.nvec)
        start = np.broadcast_to(np.asarray(space.start), nvec.shape)
        return {"kind": "MultiDiscrete", "nvec": nvec.tolist(), "start": start.tolist()}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
    raise JobError(
        f"observation space {space} has no state key; "
        "expected Discrete, MultiDiscrete, or a Tuple of these"
    )


def _leaves(description: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield (n, start) of every digit, in the order in which `_flatten` meets them."""
    if description["kind"] == "Discrete":
        yield description["n"], description["start"]
    elif description["kind"] == "MultiDiscrete":
        yield from zip(
            np.ravel(description["nvec"]).tolist(),
            np.ravel(description["start"]).tolist(),
            strict=True,
        )
    else:
        for part in description["spaces"]:
            yield from _leaves(part)


def _flatten(description: dict[str, Any], observation: Any, out: list[int]) -> None:
    """Append the digits of an observation, before `start` is taken off."""
    if description["kind"] == "Discrete":
        out.append(
            int(observation) if isinstance(observation, np.bool_) else operator.index(observation)
        )
    elif description["kind"] == "MultiDiscrete":
        array = np.asarray(observation)
        if array.shape != np.shape(description["nvec"]) or array.dtype.kind not in "iub":
            raise ValueError(f"expected integers of shape {np.shape(description['nvec'])}")
        out.extend(array.ravel().tolist())
    else:
        parts = description["spaces"]
        if not isinstance(observation, tuple | list | np.ndarray) or len(observation) != len(parts):
            raise ValueError(f"expected a tuple of {len(parts)}")
        for part, value in zip(parts, observation, strict=True):
            _flatten(part, value, out)


def _columns(description: dict[str, Any], observations: list[Any], out: list[NDArray]) -> None:
    """Append the digits of many observations, one array (n,) for each place of `_flatten`."""
    count = len(observations)
    if description["kind"] == "Discrete":
        array = np.array(observations)
        if array.shape != (count,):
            raise ValueError
        out.append(array)
    elif description["kind"] == "MultiDiscrete":
        shape = np.shape(description["nvec"])
        array = np.array(observations)
        if array.shape != (count, *shape):
            raise ValueError
        out.extend(array.reshape(count, -1).T)
    else:
        parts = description["spaces"]
        if any(len(observation) != len(parts) for observation in observations):
            raise ValueError
        for place, part in enumerate(parts):
            _columns(part, [observation[place] for observation in observations], out)


def _rebuild(description: dict[str, Any], digits: Iterator[int]) -> Any:
    if description["kind"] == "Discrete":
        return next(digits)
    if description["kind"] == "MultiDiscrete":
        nvec = np.asarray(description["nvec"])
        return np.array([next(digits) for _ in range(nvec.size)]).reshape(nvec.shape)
    return tuple(_rebuild(part, digits) for part in description["spaces"])


class Codec:
    """The bijection between the observations of one space and the keys 0 ... `size` - 1.

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
        self._digits = list(_leaves(description))
        self.size = 1
        for n, _ in self._digits:
            self.size *= n
        if self.size > 1 << 64:
            raise JobError(
                f"the observation space has about 10^{len(str(self.size)) - 1} states, more than "
                "the 2**64 that a key can tell apart; leave out what the agent need not "
                "see (a Gymnasium wrapper)"
            )

    def encode(self, observation: Any) -> int:
        """Return the key of an observation; ``np.int64(3)``, ``3`` and ``True`` are numbers.

        Raises
        ------
        ValueError
            for an observation outside the space.
        """
        values: list[int] = []
        try:
            _flatten(self.description, observation, values)
        except TypeError as error:
            raise ValueError(f"expected an integer: {error}") from None
        key = 0
        for value, (n, start) in zip(values, self._digits, strict=True):
            digit = value - start
            if not 0 <= digit < n:
                raise ValueError(f"{value} is not in {start} ... {start + n - 1}")
            key = key * n + digit
        return key

    def encode_all(self, observations: list[Any]) -> NDArray[np.uint64] | None:
        """Return the keys of many observations, uint64 (n,), or None unless all are plain.

        None says nothing of the observations: `encode` takes them one at a time, or finds the one
        that is outside the space.
        """
        columns: list[NDArray] = []
        try:
            _columns(self.description, observations, columns)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
        keys = np.zeros(len(observations), np.uint64)
        for column, (n, start) in zip(columns, self._digits, strict=True):
            if column.dtype.kind not in "iub" or not column.size:
                return None
            if int(column.min()) < start or int(column.max()) >= start + n:
                return None
            digits = column.astype(np.int64) - start
            keys = keys * np.uint64(n & MASK) + digits.astype(np.uint64)
        return keys

    def decode(self, key: int) -> Any:
        """Return the observation of a key: int, array of int64, or tuple."""
        if not 0 <= key < self.size:
            raise ValueError(f"key {key} is not in 0 ... {self.size - 1}")
        digits = []
        for n, start in reversed(self._digits):
            key, digit = divmod(key, n)
            digits.append(digit + start)
        return _rebuild(self.description, reversed(digits))
