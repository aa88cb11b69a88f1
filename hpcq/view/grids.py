"""Problems on a grid: the state of each cell, and the move of each action.

FrozenLake, CliffWalking, Taxi (one map for each destination, passenger aboard), hpcq/Gridworld
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.header import Header

# Cells of a side to plot; of a larger grid, the corner with the goal.
LARGEST = 300

NORTH, EAST, SOUTH, WEST = (-1, 0), (0, 1), (1, 0), (0, -1)


Moves = dict[int, tuple[int, int] | str]


@dataclass(frozen=True)
class Grid:
    """One map of a problem's states."""

    title: str
    keys: NDArray[np.uint64]
    """(rows, columns), the state of each cell"""
    moves: Moves
    """of each action: (rows down, columns right), or text for another effect"""
    marks: dict[tuple[int, int], str]
    """letters in cells, such as S(tart), G(oal), H(ole)"""
    walls: frozenset[tuple[int, int]] = frozenset()
    """cells with a wall on their right side"""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.keys.shape
        return rows, columns


def grids_of(header: Header) -> list[Grid]:
    """Return the maps of a checkpoint's problem; none if it is not a known grid."""
    environment = json.loads(header.job)["environment"]
    id_, kwargs = environment["id"], environment["kwargs"]
    if id_ == "hpcq/Gridworld-v0":
        return [_gridworld(kwargs)]
    if header.observation.get("kind") != "Discrete":
        return []
    size = header.observation["n"]
    if id_ in ("FrozenLake-v1", "FrozenLake8x8-v1"):
        return _frozen_lake(id_, kwargs, size)
    if id_.startswith("CliffWalking") and size == 48:
        return [_cliff_walking()]
    return _taxi() if id_.startswith("Taxi") and size == 500 else []


def _numbered(rows: int, columns: int) -> NDArray[np.uint64]:
    return np.arange(rows * columns, dtype=np.uint64).reshape(rows, columns)


def _numbering(*moves: tuple[int, int] | str) -> Moves:
    return dict(enumerate(moves))


def _gridworld(kwargs: dict[str, Any]) -> Grid:
    rows, columns = kwargs["height"], kwargs["width"]
    cells = np.arange(min(rows, LARGEST), dtype=np.uint64)[:, None] * np.uint64(columns)
    keys = cells + np.arange(min(columns, LARGEST), dtype=np.uint64)
    part = f", the {keys.shape[0]} x {keys.shape[1]} cells around the goal"
    title = f"Gridworld, {rows} x {columns}{part if keys.size < rows * columns else ''}"
    return Grid(title, keys, _numbering(NORTH, SOUTH, WEST, EAST), {(0, 0): "G"})


def _frozen_lake(id_: str, kwargs: dict[str, Any], size: int) -> list[Grid]:
    from gymnasium.envs.toy_text.frozen_lake import MAPS

    name = kwargs.get("map_name", "8x8" if "8x8" in id_ else "4x4")
    rows = kwargs.get("desc") or MAPS.get(name, [])
    side = math.isqrt(size)
    shape = (len(rows), len(rows[0])) if rows else (side, side)
    if shape[0] * shape[1] != size:
        return []
    marks = {(i, j): row[j] for i, row in enumerate(rows) for j in range(len(row)) if row[j] != "F"}
    moves = _numbering(WEST, SOUTH, EAST, NORTH)
    return [Grid("FrozenLake", _numbered(*shape), moves, marks)]


def _cliff_walking() -> Grid:
    marks = {(3, 0): "S", (3, 11): "G", **{(3, j): "C" for j in range(1, 11)}}
    moves = _numbering(NORTH, EAST, SOUTH, WEST)
    return Grid("CliffWalking", _numbered(4, 12), moves, marks)


def _taxi() -> list[Grid]:
    """States are ((row * 5 + column) * 5 + passenger) * 4 + destination; passenger 4: aboard."""
    places = {"R": (0, 0), "G": (0, 4), "Y": (4, 0), "B": (4, 3)}
    walls = frozenset({(0, 1), (1, 1), (3, 0), (4, 0), (3, 2), (4, 2)})
    moves = _numbering(SOUTH, NORTH, EAST, WEST, "pick up", "drop")
    cells = _numbered(5, 5) * np.uint64(5) + np.uint64(4)
    return [
        Grid(
            f"Taxi, passenger aboard, to {name}",
            cells * np.uint64(4) + np.uint64(i),
            moves,
            {place: letter for letter, place in places.items()},
            walls,
        )
        for i, name in enumerate(places)
    ]
