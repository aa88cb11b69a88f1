"""Floats as bins: what the job file's [environment.discretise] means, and its kernel.

A *dimension* says how one float becomes a digit, as plain JSON: either
``{"bins": n, "low": a, "high": b}``, n equal parts of [a, b] where what lies outside is clipped,
or ``{"edges": [e1, e2, ...]}``, which cut the whole line at ascending numbers. Bin i holds
edges[i - 1] <= value < edges[i].
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.jit.compiler import kernel

# Edges up to which a linear scan beats binary search.
FEW = 16


@kernel
def bin_index(edges: NDArray[np.floating], value: float) -> int:
    """Return the bin of `value`: how many of the ascending `edges` are at most `value`."""
    if edges.size <= FEW:
        # Branchless: faster than a binary search for so few.
        found = 0
        for k in range(edges.size):
            found += edges[k] <= value
        return found
    low, high = 0, edges.size
    while low < high:
        middle = (low + high) // 2
        if edges[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


def edges_of(dimension: dict[str, Any]) -> NDArray[np.float64]:
    """Return the inner edges of a dimension: one fewer than it has bins."""
    if "edges" in dimension:
        return np.array(dimension["edges"], np.float64)
    return np.linspace(dimension["low"], dimension["high"], dimension["bins"] + 1)[1:-1]


def range_of(dimension: dict[str, Any]) -> tuple[float, float]:
    """Return the range outside which values are clipped."""
    return dimension.get("low", -np.inf), dimension.get("high", np.inf)


def rounded_up(numbers: NDArray[np.float64], dtype: Any) -> NDArray[np.floating]:
    """Return the smallest values of `dtype` not below `numbers`: comparisons stay the same."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(dtype)
    return np.where(rounded < numbers, np.nextafter(rounded, dtype(np.inf)), rounded)


def middles_of(dimension: dict[str, Any]) -> NDArray[np.float64]:
    """Return a value within each bin: its middle, or a little beyond the outermost edge."""
    edges = edges_of(dimension)
    low, high = range_of(dimension)
    left, right = np.concatenate([[low], edges]), np.concatenate([edges, [high]])
    with np.errstate(invalid="ignore"):
        middle = left + (right - left) / 2
    beyond = np.where(np.isfinite(right), np.nextafter(right, -np.inf), 0.0)
    beyond = np.where(np.isfinite(left), left, beyond)
    return np.where(np.isfinite(left) & np.isfinite(right), middle, beyond)


def continuous(description: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, description) of every Box of floats in a space, in the order of its digits."""
    kind = description["kind"]
    if kind == "Box" and "shape" in description:
        yield path, description
    elif kind == "Tuple":
        for place, part in enumerate(description["spaces"]):
            yield from continuous(part, f"{path}[{place}]")
    elif kind == "Dict":
        for name, part in description["spaces"].items():
            yield from continuous(part, f"{path}[{name!r}]")


def components(description: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Return (name, low, high) of every float in a space; None where there is no bound."""
    found = []
    for path, box in continuous(description):
        for place, low, high in zip(
            np.ndindex(*box["shape"]), box["low"], box["high"], strict=True
        ):
            name = f"{path}[{', '.join(map(str, place))}]" if place else path
            found.append((name or "the number", low, high))
    return found


def one_for_each(values: list, count: int, key: str, names: list[str]) -> list:
    """Return the list with an entry for each component; a single entry stands for all."""
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise JobError(
            f"{key} has {len(values)} entries, expected {count} (or 1 for all): "
            f"{', '.join(names[:8])}{', ...' if count > 8 else ''}"
        )
    return values


def dimensions(found: list[tuple[str, float | None, float | None]], section: Any, key: str) -> list:
    """Return the dimension of every component in `found` as the job's `section` says.

    Raises
    ------
    JobError
        naming the key, and the component where one is to blame.
    """
    names = [name for name, _, _ in found]
    if section.edges is not None:
        edges = one_for_each(section.edges, len(found), f"{key}.edges", names)
        for name, ascending in zip(names, edges, strict=True):
            if any(b <= a for a, b in pairwise(ascending)):
                raise JobError(f"{key}.edges of {name} are not ascending: {ascending}")
        return [{"edges": [float(edge) for edge in each]} for each in edges]
    counts = one_for_each(section.bins, len(found), f"{key}.bins", names)
    return [
        {"bins": n, "low": low, "high": high}
        for n, (low, high) in zip(counts, bounds(found, section, key), strict=True)
    ]


def bounds(
    found: list[tuple[str, float | None, float | None]], section: Any, key: str
) -> list[tuple[float, float]]:
    """Return the finite range of every component: the job's, or else the space's own."""
    names = [name for name, _, _ in found]
    sides: list[list[float]] = []
    for side, own in (("low", [f[1] for f in found]), ("high", [f[2] for f in found])):
        given = getattr(section, side)
        if given is not None:
            own = one_for_each(given, len(found), f"{key}.{side}", names)
        sides.append([])
        for name, value in zip(names, own, strict=True):
            if value is None:
                raise JobError(f"{name} has no bound in its space; give {key}.{side}")
            sides[-1].append(float(value))
    for name, low, high in zip(names, *sides, strict=True):
        if low >= high:
            raise JobError(f"{key}: {name} reaches from {low:g} to {high:g}; expected low < high")
    return list(zip(*sides, strict=True))


def discretised(description: dict[str, Any], section: Any) -> dict[str, Any]:
    """Return a space's description with a dimension for every float in it.

    Parameters
    ----------
    section
        the job's [environment.discretise], or None.

    Raises
    ------
    JobError
        if the section does not fit the space, or is missing or superfluous.
    """
    key = "environment.discretise"
    found = components(description)
    if not found:
        if section is not None:
            raise JobError(f"{key} is given, but the space has no floats")
        return description
    if section is None:
        raise JobError(
            f"{len(found)} floats ({', '.join(name for name, _, _ in found[:8])}"
            f"{', ...' if len(found) > 8 else ''}) have no finite number of values; give bins or "
            f"edges in [{key}] (`hpcq init` suggests bins), or codec = 'digest'"
        )
    every = iter(dimensions(found, section, key))

    def replace(part: dict[str, Any]) -> dict[str, Any]:
        if part["kind"] == "Box" and "shape" in part:
            size = int(np.prod(part["shape"]))
            kept = {name: part[name] for name in ("kind", "dtype", "shape")}
            return {**kept, "dimensions": [next(every) for _ in range(size)]}
        if part["kind"] == "Tuple":
            return {**part, "spaces": [replace(inner) for inner in part["spaces"]]}
        if part["kind"] == "Dict":
            spaces = {name: replace(inner) for name, inner in part["spaces"].items()}
            return {**part, "spaces": spaces}
        return part

    return replace(description)
