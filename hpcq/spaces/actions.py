"""Action numbers 0, 1, ... and the actions of a Gymnasium space that they stand for.

Discrete (any start), MultiDiscrete, MultiBinary, Tuples and Dicts of these, and Boxes: of integers
as they are, of floats through the values that the job file gives. Numbers are mixed-radix, the
first component the most significant.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.spaces.discretise import bounds, components, one_for_each
from hpcq.spaces.spaces import describe

MAX_ACTIONS = 65_536


class Actions:
    """All actions of one Gymnasium space.

    Parameters
    ----------
    space
        the action space of one environment.
    levels
        the job's [environment.discretise_actions], for spaces with floats.

    Raises
    ------
    JobError
        for a space without a number for every action, or with more than `MAX_ACTIONS`.
    """

    def __init__(self, space: Any, levels: Any = None) -> None:
        try:
            tree = _values(space, iter(_levels(describe(space), levels)))
            self._fill(tree)
        except JobError as error:
            raise JobError(f"action space {space}: {error}") from None
        self.description: dict[str, Any] = _describe(tree)
        """the tree as JSON; see `described`"""

    @classmethod
    def described(cls, description: dict[str, Any]) -> "Actions":
        """Return the actions of a description: from a checkpoint, say. Needs no Gymnasium.

        Raises
        ------
        JobError, KeyError, TypeError, ValueError
            for what is not a description.
        """
        actions = cls.__new__(cls)
        actions.description = description
        actions._fill(_described(description))
        return actions

    def _fill(self, tree: Any) -> None:
        radices = [len(values) for leaf in _leaves(tree) for values in leaf[1]]
        self.count = math.prod(radices)
        """how many there are"""
        if self.count > MAX_ACTIONS:
            raise JobError(f"{self.count:,} actions, more than {MAX_ACTIONS:,}")
        digits = iter(np.unravel_index(np.arange(self.count), radices) if radices else [])
        self._tree = _tables(tree, digits, self.count)
        # Numbers are immutable: the same objects can be given to the environment every time.
        numbers = isinstance(self._tree, np.ndarray) and self._tree.ndim == 1
        self._numbers = np.array(list(self._tree), object) if numbers else None

    def batch(self, numbers: NDArray[np.integer]) -> Any:
        """Return many actions as a VectorEnv takes them: arrays, in the space's tuples and dicts.

        The arrays are new: what an environment does to them changes nothing here.
        """
        return _take(self._tree, numbers)

    def each(self, numbers: NDArray[np.integer]) -> list[Any]:
        """Return many actions one by one, each as ``action_space.sample()`` would look."""
        if self._numbers is not None:
            return self._numbers[numbers].tolist()
        return _split(self.batch(numbers))

    def one(self, number: int) -> Any:
        """Return one action."""
        return self.each(np.array([number]))[0]


# A tree of actions is a leaf (dtype, values of each component, shape), a tuple or a dict of trees.


class _Leaf(tuple):
    __slots__ = ()


def numbered(count: int) -> dict[str, Any]:
    """Return the description of the actions 0 ... `count` - 1."""
    return {"dtype": "int64", "shape": [], "values": [{"start": 0, "n": count}]}


def _describe(tree: Any) -> dict[str, Any]:
    if isinstance(tree, _Leaf):
        dtype, values, shape = tree
        return {
            "dtype": np.dtype(dtype).name,
            "shape": list(shape),
            "values": [
                {"start": each.start, "n": len(each)} if isinstance(each, range) else each.tolist()
                for each in values
            ],
        }
    if isinstance(tree, dict):
        return {"dict": {name: _describe(part) for name, part in tree.items()}}
    return {"tuple": [_describe(part) for part in tree]}


def _described(description: dict[str, Any]) -> Any:
    if "dict" in description:
        return {name: _described(part) for name, part in description["dict"].items()}
    if "tuple" in description:
        return tuple(_described(part) for part in description["tuple"])
    values: list[Sequence] = [
        range(each["start"], each["start"] + each["n"]) if isinstance(each, dict) else each
        for each in description["values"]
    ]
    return _Leaf((np.dtype(description["dtype"]), values, tuple(description["shape"])))


def _levels(description: dict[str, Any], section: Any) -> list[NDArray]:
    """Return the values of every float in the space."""
    key = "environment.discretise_actions"
    found = components(description)
    if not found:
        if section is not None:
            raise JobError(f"{key} is given, but the space has no floats")
        return []
    if section is None:
        listed = ", ".join(name for name, _, _ in found[:8])
        raise JobError(
            f"{len(found)} floats ({listed}) have no finite number of values; give levels or "
            f"values in [{key}]"
        )
    names = [name for name, _, _ in found]
    if section.values is not None:
        values = one_for_each(section.values, len(found), f"{key}.values", names)
        if not all(values):
            raise JobError(f"{key}.values has an empty list; expected at least one value each")
        return [np.array(each, np.float64) for each in values]
    counts = one_for_each(section.levels, len(found), f"{key}.levels", names)
    return [
        np.linspace(low, high, n) if n > 1 else np.array([low + (high - low) / 2])
        for n, (low, high) in zip(counts, bounds(found, section, key), strict=True)
    ]


def _values(space: Any, floats: Iterator[NDArray]) -> Any:
    from gymnasium import spaces

    if isinstance(space, spaces.Tuple):
        return tuple(_values(part, floats) for part in space.spaces)
    if isinstance(space, spaces.Dict):
        return {name: _values(space[name], floats) for name in sorted(space.spaces)}
    if isinstance(space, spaces.Discrete):
        return _Leaf((np.int64, [range(int(space.start), int(space.start + space.n))], ()))
    if isinstance(space, spaces.MultiBinary):
        counts, starts = np.full(space.shape, 2), np.zeros(space.shape, int)
    elif isinstance(space, spaces.MultiDiscrete):
        counts, starts = np.asarray(space.nvec), np.broadcast_to(space.start, space.shape)
    elif isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return _Leaf((space.dtype, [next(floats) for _ in range(space.low.size)], space.shape))
    elif isinstance(space, spaces.Box):
        starts = space.low.astype(object)
        counts = space.high.astype(object) - starts + 1
    else:
        raise JobError("expected Discrete, MultiDiscrete, MultiBinary, Box, or Tuples or Dicts")
    values = [
        range(int(start), int(start + count))
        for start, count in zip(starts.ravel(), counts.ravel(), strict=True)
    ]
    if math.prod(len(each) for each in values) > MAX_ACTIONS:
        raise JobError(f"more than {MAX_ACTIONS:,} actions")
    return _Leaf((space.dtype, values, space.shape))


def _leaves(tree: Any) -> Iterator[_Leaf]:
    if isinstance(tree, _Leaf):
        yield tree
    else:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(part)


def _tables(tree: Any, digits: Iterator[NDArray], count: int) -> Any:
    """Return the tree with, for each leaf, its value under every action number."""
    if isinstance(tree, _Leaf):
        dtype, values, shape = tree
        columns = [np.asarray(each)[next(digits)] for each in values]
        flat = np.array(columns, dtype).reshape(len(columns), count)
        return np.ascontiguousarray(flat.T).reshape(count, *shape)
    if isinstance(tree, dict):
        return {name: _tables(part, digits, count) for name, part in tree.items()}
    return tuple(_tables(part, digits, count) for part in tree)


def _take(tree: Any, numbers: NDArray[np.integer]) -> Any:
    if isinstance(tree, dict):
        return {name: _take(part, numbers) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_take(part, numbers) for part in tree)
    return tree.take(numbers, axis=0)


def _split(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        columns = zip(*(_split(part) for part in batch.values()), strict=True)
        return [dict(zip(batch, row, strict=True)) for row in columns]
    if isinstance(batch, tuple):
        return list(zip(*(_split(part) for part in batch), strict=True))
    return list(batch)
