"""A grid with walls, up to 10^8 cells: find the way to the corner.

Every step costs 1. The goal is cell (0, 0); episodes start uniformly anywhere. Whether a cell is a
wall follows from a hash of its number, so a grid of any size takes no memory. Stepping into a wall
or off the grid changes nothing. The first row and column have no walls, so the goal can be reached
from there.
"""

from typing import Any, NamedTuple

import numpy as np

from hpcq.envs.protocol import CompiledEnvironment, integer, number
from hpcq.envs.rules import Rules, deterministic
from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import second_draw, seed_word, unit_interval
from hpcq.spaces.actions import numbered

NORTH, SOUTH, WEST, EAST = range(4)


class Grid(NamedTuple):
    """The parameters of one grid."""

    width: int
    height: int
    walls: float
    """probability that a cell is a wall"""
    word: np.uint64
    """decides which"""


@kernel
def is_wall(model: Any, cell: np.uint64) -> Any:
    """Return whether a cell (uint64) is a wall."""
    width = np.uint64(model.width)
    edge = cell < width or cell % width == np.uint64(0)
    return not edge and unit_interval(mix64(model.word ^ mix64(cell))) < model.walls


@kernel
def reset(model: Any, draw: np.uint64) -> Any:
    """Return a cell that is neither a wall nor the goal."""
    others = np.uint64(model.width * model.height - 1)
    cell = np.uint64(1) + hi64(draw, others)
    while is_wall(model, cell):
        draw = second_draw(draw)
        cell = np.uint64(1) + hi64(draw, others)
    return cell


@kernel
def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
    """Move to the neighbour unless that is a wall."""
    width = np.int64(model.width)
    row, column = np.int64(key) // width, np.int64(key) % width
    if action == NORTH:
        row -= 1
    elif action == SOUTH:
        row += 1
    elif action == WEST:
        column -= 1
    else:
        column += 1
    to = np.uint64(row * width + column)
    if not (0 <= row < model.height and 0 <= column < width) or is_wall(model, to):
        to = np.uint64(key)
    return to, -1.0, to == np.uint64(0)


@inlined
def start(model: Any, i: int) -> Any:
    """Return (probability, cell i): any but the goal and the walls, with the same probability."""
    others = model.width * model.height - 1
    cell = np.uint64(i)
    return 0.0 if i == 0 or is_wall(model, cell) else 1.0 / others, cell


def gridworld(
    max_episode_steps: int | None,
    *,
    width: int,
    height: int,
    walls: float = 0.0,
    seed: int = 0,
) -> CompiledEnvironment:
    """Return a grid of `height` x `width` cells: job id ``hpcq/Gridworld-v0``."""
    id_ = "hpcq/Gridworld-v0"
    integer(id_, "width", width, 2, 50_000_000)
    integer(id_, "height", height, 2, 100_000_000 // width)
    number(id_, "walls", walls, 0, 0.5)
    integer(id_, "seed", seed, 0, (1 << 63) - 1)
    observation = {"kind": "MultiDiscrete", "nvec": [height, width], "start": [0, 0]}
    model = Grid(width, height, float(walls), seed_word(seed))
    return CompiledEnvironment(
        id_,
        observation,
        4,
        numbered(4),
        model,
        reset,
        step,
        max_episode_steps,
        rules=Rules(deterministic(step), 1, start, width * height),
    )
