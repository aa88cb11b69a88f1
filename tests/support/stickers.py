"""The puzzles once more, as coloured stickers and as tiles in cells, searched breadth-first.

A search walks hpcq's keys and its own positions side by side. On the way it checks that a move
leads from key to key as it leads from position to position, and at the end that no two keys have
the same position: then both are the same puzzle, and the distances found are its distances.
"""

import itertools

import numba
import numpy as np


@numba.njit
def _step_all(step, model, keys, move, out):
    for i in range(keys.size):
        out[i] = step(model, keys[i], move, np.uint64(0))[0]


def keys_after(environment, keys, move):
    """Return the keys (uint64) after a move from each of `keys`."""
    out = np.empty_like(keys)
    _step_all(environment.step, environment.model, keys, move, out)
    return out


def _search(environment, solved, radix, successor):
    """Return the distance of every key.

    solved     uint8 (cells,)
    radix      values that a cell can take
    successor  (positions uint8 (n, cells), move) -> positions after the move
    """
    size = int(environment.model.positions)
    weights = np.uint64(radix) ** np.arange(solved.size, dtype=np.uint64)
    distance, codes = np.full(size, -1), np.zeros(size, np.uint64)
    positions, keys, depth = solved[None, :], np.zeros(1, np.uint64), 0
    distance[0], codes[0] = 0, solved @ weights
    while keys.size:
        depth += 1
        found, found_keys = [], []
        for move in range(environment.actions):
            after, after_keys = successor(positions, move), keys_after(environment, keys, move)
            after_codes = after @ weights
            new = distance[after_keys] < 0
            distance[after_keys[new]] = depth
            codes[after_keys[new]] = after_codes[new]
            assert (codes[after_keys] == after_codes).all()
            found.append(after[new])
            found_keys.append(after_keys[new])
        positions, keys = np.concatenate(found), np.concatenate(found_keys)
    assert np.unique(codes).size == size
    return distance


def puzzle_distances(environment, height, width):
    """Return the distance of every key; 0 is the blank, and solved is 0 1 2 ... in rows."""
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def successor(positions, move):
        rows = np.arange(positions.shape[0])
        blank = positions.argmin(axis=1)
        row, column = blank // width + moves[move][0], blank % width + moves[move][1]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        to = np.where(inside, width * row + column, blank)
        after = positions.copy()
        after[rows, blank] = positions[rows, to]
        after[rows, to] = 0
        return after

    cells = height * width
    return _search(environment, np.arange(cells, dtype=np.uint8), cells, successor)


def cube_distances(environment):
    """Return the distance of every key, from 24 stickers in space: x right, y back, z up."""
    axes = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    stickers = [
        (corner, tuple(normal))
        for corner in itertools.product((-1, 1), repeat=3)
        for normal in axes
        if np.dot(corner, normal) == 1
    ]
    colours = np.array([axes.tolist().index(list(normal)) for _, normal in stickers], np.uint8)

    def quarter(face):
        """Return which sticker is at each place after a quarter turn to the right."""

        def turned(vector):
            return tuple((np.dot(face, vector) * face - np.cross(face, vector)).tolist())

        source = np.zeros(24, int)
        for i, (corner, normal) in enumerate(stickers):
            moves = np.dot(corner, face) == 1
            to = (turned(corner), turned(normal)) if moves else (corner, normal)
            source[stickers.index(to)] = i
        return source

    sources = []
    for face in ([0, 0, 1], [1, 0, 0], [0, -1, 0]):
        once = quarter(np.array(face))
        sources += [once, once[once], once[once][once]]
    return _search(environment, colours, 6, lambda positions, move: positions[:, sources[move]])
