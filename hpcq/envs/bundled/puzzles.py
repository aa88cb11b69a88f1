"""Puzzles in which every position has its own number: sliding tiles and the pocket cube.

Every move costs 1; the solved position has key 0 and ends the episode, so at gamma = 1 a state's
value is minus its distance. Episodes start with a uniform scramble, or `scramble` random moves
away from the solved position.

8-puzzle: a key is (blank's cell, order of the tiles). Sliding a tile up or down takes it past two
others and sliding it sideways past none, so the order's parity never changes: of two orders whose
ranks differ in the last bit, one occurs. Reinefeld, "Complete solution of the eight-puzzle", IJCAI
1993: 181,440 positions, the hardest two 31 moves away. With other sides, a tile that slides up or
down passes one less than the columns: where they are even, the parity is that of the blank's row.

Pocket cube: one corner stays where it is; three faces turn, by a quarter to the right, a half, or
a quarter to the left. A key is (order of the seven other corners, twists of six of them; the last
twist follows), and each part moves by itself: two small tables are the whole model.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.bundled.permutations import item, of_parity, rank, replaced, unrank
from hpcq.envs.protocol import CompiledEnvironment, integer
from hpcq.envs.rules import Rules, deterministic
from hpcq.hashing import hi64
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import second_draw
from hpcq.spaces.actions import numbered


def _make_kernels(move: Any, actions: int) -> tuple[Any, Any]:
    """Return the kernels (reset, step) of a puzzle, from move(model, key, action) -> key."""

    @kernel
    def reset(model: Any, draw: np.uint64) -> Any:
        if model.scramble == 0:
            return np.uint64(1) + hi64(draw, model.positions - np.uint64(1))
        key = np.uint64(0)
        left = model.scramble
        while left > 0 or key == np.uint64(0):
            key = move(model, key, np.int64(hi64(draw, np.uint64(actions))))
            draw = second_draw(draw)
            left -= 1
        return key

    @kernel
    def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
        key = move(model, key, action)
        return key, -1.0, key == np.uint64(0)

    return reset, step


@inlined
def start(model: Any, i: int) -> Any:
    """Return (probability, position i): any but the solved one."""
    return 0.0 if i == 0 else 1.0 / (np.float64(model.positions) - 1.0), np.uint64(i)


@inlined
def start_solved(model: Any, i: int) -> Any:
    """Return the solved position, from which all others are scrambled."""
    return 1.0, np.uint64(0)


def _rules(step: Any, scramble: int, positions: int) -> Rules:
    """Return the rules of a puzzle; of scrambles by moves, how probable each is is not known."""
    if scramble:
        return Rules(deterministic(step), 1, start_solved, 1)
    return Rules(deterministic(step), 1, start, positions)


class Slide(NamedTuple):
    """The parameters of a sliding puzzle."""

    positions: np.uint64
    scramble: int


def _orders(cells: int) -> int:
    """Return how many orders of the tiles can be reached: half of all."""
    return math.factorial(cells - 1) // 2


@functools.cache
def make_slide(rows: int, columns: int) -> Any:
    """Return the kernel of a move."""
    tiles, orders = rows * columns - 1, np.uint64(_orders(rows * columns))
    even, passed = columns % 2 == 0, columns - 1

    @kernel
    def slide(model: Any, key: np.uint64, action: int) -> Any:
        """Move the blank up, down, left or right; at the edge it stays."""
        blank = np.int64(key // orders)
        row, column = blank // columns, blank % columns
        odd = even and row % 2 == 1
        row += (action == 1) - (action == 0)
        column += (action == 3) - (action == 2)
        if not (0 <= row < rows and 0 <= column < columns):
            return np.uint64(key)
        to = columns * row + column
        half = key % orders
        if action >= 2:
            return np.uint64(to) * orders + half
        order = of_parity(half, tiles, odd)
        # Without the blank, the tile that slides is at place `to`, or `to` - 1.
        if to < blank:
            tile = item(order, to)
            for place in range(to, to + passed):
                order = replaced(order, place, item(order, place + 1))
            order = replaced(order, to + passed, tile)
        else:
            tile = item(order, to - 1)
            for place in range(to - 1, to - 1 - passed, -1):
                order = replaced(order, place, item(order, place - 1))
            order = replaced(order, to - 1 - passed, tile)
        return np.uint64(to) * orders + rank(order, tiles) // np.uint64(2)

    return slide


class Cube(NamedTuple):
    """The parameters of the pocket cube: the next value of both parts of a key, by action."""

    positions: np.uint64
    scramble: int
    order: NDArray[np.int64]
    """(5040, 9)"""
    twist: NDArray[np.int64]
    """(729, 9)"""


@kernel
def turn(model: Any, key: np.uint64, action: int) -> Any:
    """Turn a face: actions 0, 1, 2 the first face by 1, 2, 3 quarters, and so on."""
    order = model.order[np.int64(key) // 729, action]
    return np.uint64(order * 729 + model.twist[np.int64(key) % 729, action])


# Places: 0 right-up-front, 1 left-up-front, 2 left-up-back, 3 right-up-back, 4 right-down-front,
# 5 left-down-front, 6 right-down-back; left-down-back stays. A quarter turn to the right of a face
# brings the corner at each place of its cycle to the next one and adds to its twist: how many
# thirds of a turn to the right, seen from outside, its up or down sticker is away from up or down.
_CYCLES = ((0, 1, 2, 3), (0, 3, 6, 4), (0, 4, 5, 1))  # up, right, front
_TWISTS = ((0, 0, 0, 0), (1, 2, 1, 2), (2, 1, 2, 1))


def _quarter(face: int, corners: list[int], twists: list[int]) -> tuple[list[int], list[int]]:
    """Return (corner, twist) at each place after a quarter turn."""
    corners, twists = corners.copy(), twists.copy()
    before = list(zip(corners, twists, strict=True))
    cycle = _CYCLES[face]
    for i, place in enumerate(cycle):
        to = cycle[(i + 1) % 4]
        corners[to] = before[place][0]
        twists[to] = (before[place][1] + _TWISTS[face][i]) % 3
    return corners, twists


def _cube_tables() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order, twist = np.zeros((5040, 9), np.int64), np.zeros((729, 9), np.int64)
    for number in range(5040):
        packed = int(unrank(np.uint64(number), 7))
        corners = [packed >> 4 * place & 15 for place in range(7)]
        for face in range(3):
            after = corners
            for quarter in range(3):
                after, _ = _quarter(face, after, [0] * 7)
                repacked = sum(corner << 4 * place for place, corner in enumerate(after))
                order[number, 3 * face + quarter] = int(rank(np.uint64(repacked), 7))
    for number in range(729):
        twists = [number // 3**place % 3 for place in range(6)]
        twists.append(-sum(twists) % 3)
        for face in range(3):
            turned = twists
            for quarter in range(3):
                _, turned = _quarter(face, [0] * 7, turned)
                twist[number, 3 * face + quarter] = sum(
                    value * 3**place for place, value in enumerate(turned[:6])
                )
    return order, twist


def eight_puzzle(
    max_episode_steps: int | None, *, scramble: int = 0, rows: int = 3, columns: int = 3
) -> CompiledEnvironment:
    """Return the 8-puzzle, or one of other sides: job id ``hpcq/EightPuzzle-v0``.

    Parameters
    ----------
    scramble
        0: uniform.
    """
    name = "hpcq/EightPuzzle-v0"
    integer(name, "scramble", scramble, 0, 10_000)
    integer(name, "rows", rows, 2, 4)
    integer(name, "columns", columns, 2, 4)
    cells = rows * columns
    orders = _orders(cells)
    reset, step = _make_kernels(make_slide(rows, columns), 4)
    return CompiledEnvironment(
        name,
        {"kind": "MultiDiscrete", "nvec": [cells, orders], "start": [0, 0]},
        4,
        numbered(4),
        Slide(np.uint64(cells * orders), scramble),
        reset,
        step,
        max_episode_steps,
        rules=_rules(step, scramble, cells * orders),
    )


def pocket_cube(max_episode_steps: int | None, *, scramble: int = 0) -> CompiledEnvironment:
    """Return the 2x2x2 cube: job id ``hpcq/PocketCube-v0``. `scramble` 0: uniform."""
    integer("hpcq/PocketCube-v0", "scramble", scramble, 0, 10_000)
    order, twist = _cube_tables()
    reset, step = _make_kernels(turn, 9)
    return CompiledEnvironment(
        "hpcq/PocketCube-v0",
        {"kind": "MultiDiscrete", "nvec": [5040, 729], "start": [0, 0]},
        9,
        numbered(9),
        Cube(np.uint64(5040 * 729), scramble, order, twist),
        reset,
        step,
        max_episode_steps,
        rules=_rules(step, scramble, 5040 * 729),
    )
