"""m,n,k-games: the first player with `length` stones in a line wins.

Tic-tac-toe, and with gravity (stones fall to the lowest free cell of a column) Connect Four. A
position is seen by the player to move: 0 free, 1 mine, 2 the other's; its key is the mixed-radix
number of the cells, row by row from the top.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.compiler import kernel

GOES_ON, WON, DRAWN = 0, 1, 2

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


class Board(NamedTuple):
    """The parameters of an m,n,k-game."""

    width: int
    height: int
    length: int
    """stones in a line that win"""
    gravity: bool
    """moves are columns, not cells"""
    start: np.uint64
    """key of the empty board"""
    loss: float
    """reward of losing"""
    best: NDArray[np.uint64]
    """(keys,), best moves as a bitset, for a perfect opponent; or empty"""


@kernel
def bit(place: Any) -> Any:
    """Return the bitset with one member."""
    return _ONE << np.uint64(place)


@kernel
def stones(key: np.uint64, cells: int) -> Any:
    """Return the bitsets (mine, the other's) of a key."""
    mine, other = _ZERO, _ZERO
    for cell in range(cells - 1, -1, -1):
        digit = key % _THREE
        key = key // _THREE
        if digit == _ONE:
            mine |= bit(cell)
        elif digit == _TWO:
            other |= bit(cell)
    return mine, other


@kernel
def key_of(mine: np.uint64, other: np.uint64, cells: int) -> Any:
    """Return the key of two bitsets: the inverse of `stones`."""
    key = _ZERO
    for cell in range(cells):
        place = np.uint64(cell)
        key = key * _THREE + ((mine >> place) & _ONE) + _TWO * ((other >> place) & _ONE)
    return key


@kernel
def in_line(model: Any, mine: np.uint64, cell: Any) -> bool:
    """Return whether the stone at `cell` stands in a line of `model.length` of mine."""
    row, column = cell // model.width, cell % model.width
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        count = 1
        for sign in (1, -1):
            y, x = row + sign * down, column + sign * right
            while (
                0 <= y < model.height
                and 0 <= x < model.width
                and mine & bit(y * model.width + x) != _ZERO
            ):
                count += 1
                y += sign * down
                x += sign * right
        if count >= model.length:
            return True
    return False


@kernel
def legal(model: Any, key: np.uint64) -> Any:
    """Return the bitset of the moves that the rules allow."""
    mine, other = stones(key, model.width * model.height)
    free = ~(mine | other)
    # A column is free where its top cell is.
    moves = model.width if model.gravity else model.width * model.height
    return free & (bit(moves) - _ONE)


@kernel
def play(model: Any, key: np.uint64, move: int) -> Any:
    """Return (key as the other player sees it, GOES_ON, WON or DRAWN) after a legal move."""
    cells = model.width * model.height
    mine, other = stones(key, cells)
    cell = np.int64(move)
    if model.gravity:
        while cell + model.width < cells and (mine | other) & bit(cell + model.width) == _ZERO:
            cell += model.width
    mine |= bit(cell)
    key = key_of(other, mine, cells)
    if in_line(model, mine, cell):
        return key, WON
    if mine | other == bit(cells) - _ONE:
        return key, DRAWN
    return key, GOES_ON
