"""Any observation of any Gymnasium space as 64 bits: blake2b over one canonical form.

The form follows from the space, not from the types that hold the observation: lists and arrays,
Python's and NumPy's numbers give the same bytes. What has no fixed size is preceded by its length,
so that no two observations have the same form.
"""

import hashlib
import operator
from typing import Any

import numpy as np

from hpcq.spaces.spaces import item


def digest(description: dict[str, Any], observation: Any) -> int:
    """Return 64 bits of the observation's digest.

    Raises
    ------
    ValueError
        if the observation is not one of the space.
    """
    state = hashlib.blake2b(digest_size=8)
    try:
        _feed(description, observation, state)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"expected an observation of {description['kind']}: {error}") from None
    return int.from_bytes(state.digest(), "little")


def collision_bound(states: int) -> float:
    """Return an upper bound of the probability that two of so many states share a key."""
    return min(1.0, states * (states - 1) / 2 / 2.0**64)


def _feed(description: dict[str, Any], value: Any, state: Any) -> None:
    kind = description["kind"]
    if kind == "Discrete":
        number = int(value) if isinstance(value, np.bool_) else operator.index(value)
        state.update(number.to_bytes(16, "little", signed=True))
    elif kind in ("MultiDiscrete", "MultiBinary", "Box"):
        state.update(_array(description, value).tobytes())
    elif kind == "Tuple":
        if len(value) != len(description["spaces"]):
            raise ValueError(f"expected a tuple of {len(description['spaces'])}")
        for part, inner in zip(description["spaces"], value, strict=True):
            _feed(part, inner, state)
    elif kind == "Dict":
        for name, part in description["spaces"].items():
            _feed(part, value[name], state)
    elif kind == "OneOf":
        index = operator.index(value[0])
        state.update(index.to_bytes(8, "little"))
        _feed(description["spaces"][index], value[1], state)
    elif kind == "Text":
        text = value.encode()
        _length(len(text), state)
        state.update(text)
    elif kind == "Sequence":
        count = _size(description["space"], value)
        _length(count, state)
        for i in range(count):
            _feed(description["space"], _member(description["space"], value, i), state)
    else:
        _graph(description, value, state)


def _length(count: int, state: Any) -> None:
    state.update(count.to_bytes(8, "little"))


def _size(space: dict[str, Any], value: Any) -> int:
    """Return the length of a sequence: a tuple of items, or items stacked in batches."""
    while not isinstance(value, tuple | list | np.ndarray):
        value = next(iter(value.values()))
    if isinstance(value, tuple) and space["kind"] == "Tuple" and not isinstance(value[0], tuple):
        return _size(space["spaces"][0], value[0])
    return len(value)


def _member(space: dict[str, Any], value: Any, i: int) -> Any:
    stacked = isinstance(value, dict) or (
        space["kind"] == "Tuple" and not isinstance(value[0], tuple)
    )
    return item(space, value, i) if stacked else value[i]


def _graph(description: dict[str, Any], value: Any, state: Any) -> None:
    nodes, edges, links = value
    for part, rows in (("node", nodes), ("edge", edges)):
        count = 0 if rows is None else len(rows)
        _length(count, state)
        for i in range(count):
            _feed(description[part], rows[i], state)
    if links is not None:
        state.update(np.ascontiguousarray(links, "<i8").tobytes())


def _array(description: dict[str, Any], value: Any) -> Any:
    """Return the array in the space's shape and element type, little-endian."""
    kind = description["kind"]
    shape = description.get("shape")
    if shape is None:
        shape = np.shape(description["nvec" if kind == "MultiDiscrete" else "low"])
    dtype = np.dtype(description.get("dtype", "int64"))
    found = np.asarray(value)
    if found.shape != tuple(shape) or found.dtype.kind not in "fiub"[dtype.kind != "f" :]:
        raise ValueError(
            f"expected {dtype} of shape {tuple(shape)}, not {found.dtype} of {found.shape}"
        )
    array = found.astype(dtype.newbyteorder("<"))
    if dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError("it has a NaN")
        array += 0.0  # -0.0 is 0.0
    elif (array != found).any():
        raise ValueError(f"expected values of {dtype}")
    return array
