"""The 8-puzzle and the pocket cube against breadth-first searches with other representations."""

import itertools

import numpy as np
import pytest
from stickers import cube_distances, puzzle_distances
from truths import deterministic_values

from hpcq.envs.bundled import permutations
from hpcq.envs.bundled.gridworld import is_wall
from hpcq.envs.resolve import resolve
from hpcq.hashing import mix64
from hpcq.job.environment_section import EnvironmentSection

# OEIS A089473.
EIGHT_PUZZLE = [1, 2, 4, 8, 16, 20, 39, 62, 116, 152, 286, 396, 748, 1024, 1893, 2512, 4485, 5638]
EIGHT_PUZZLE += [9529, 10878, 16993, 17110, 23952, 20224, 24047, 15578, 14560, 6274, 3910, 760]
EIGHT_PUZZLE += [221, 2]
CUBE = [1, 9, 54, 321, 1847, 9992, 50136, 227536, 870072, 1887748, 623800, 2644]


def make(name, **kwargs):
    return resolve(EnvironmentSection(id=f"hpcq/{name}-v0", kwargs=kwargs))


def test_ranks_are_a_bijection():
    orders = [
        sum(item << 4 * place for place, item in enumerate(order))
        for order in itertools.permutations(range(6))
    ]
    # itertools' order is the lexicographic one, as is the ranks'.
    for number, order in enumerate(orders):
        assert permutations.rank(np.uint64(order), 6) == number
        assert permutations.unrank(np.uint64(number), 6) == order


def test_parity_is_the_number_of_swaps():
    rng = np.random.default_rng(0)
    for _ in range(50):
        order = list(range(8))
        swaps = int(rng.integers(10))
        for _ in range(swaps):
            i, j = rng.choice(8, 2, replace=False)
            order[i], order[j] = order[j], order[i]
        packed = np.uint64(sum(item << 4 * place for place, item in enumerate(order)))
        assert permutations.is_odd(packed, 8) == bool(swaps % 2)


def check(environment, distances):
    values = deterministic_values(environment, 1.0, -100.0)
    assert (values[1:] == -distances[1:]).all()


def test_the_pocket_cubes_distances_are_the_published_and_the_searched_ones():
    environment = make("PocketCube")
    distances = cube_distances(environment)
    assert np.bincount(distances).tolist() == CUBE
    check(environment, distances)


# Positions and greatest distances: Karlemo and Ostergard, "On sliding block puzzles", 2000.
@pytest.mark.parametrize(
    ("rows", "columns", "positions", "radius"),
    [(3, 3, 181_440, 31), (2, 2, 12, 6), (2, 3, 360, 21), (3, 2, 360, 21), (2, 4, 20_160, 36)],
)
def test_sliding_puzzles_are_the_published_and_the_searched_ones(rows, columns, positions, radius):
    environment = make("EightPuzzle", rows=rows, columns=columns)
    distances = puzzle_distances(environment, rows, columns)
    assert (distances.size, distances.max()) == (positions, radius)
    if rows == columns == 3:
        assert np.bincount(distances).tolist() == EIGHT_PUZZLE
    check(environment, distances)


def test_scrambles_are_uniform_or_so_many_moves_away():
    draws = mix64.py_func(np.arange(20_000, dtype=np.uint64))
    for name, size in (("EightPuzzle", 181_440), ("PocketCube", 3_674_160)):
        environment = make(name)
        keys = np.array([environment.reset(environment.model, draw) for draw in draws])
        assert keys.min() > 0
        assert abs(keys.mean() / size - 0.5) < 5 * 0.29 / np.sqrt(draws.size)
        environment = make(name, scramble=1)
        keys = {int(environment.reset(environment.model, draw)) for draw in draws[:1000]}
        steps = {
            int(environment.step(environment.model, np.uint64(0), a, draws[0])[0])
            for a in range(environment.actions)
        }
        assert keys == steps - {0}


def test_a_grids_values_are_the_lengths_of_shortest_ways():
    environment = make("Gridworld", width=31, height=23, walls=0.3, seed=3)
    wall = [is_wall(environment.model, np.uint64(cell)) for cell in range(31 * 23)]
    assert 0.2 < np.mean(wall) < 0.4
    distance, frontier = {0: 0}, [0]
    for cell in frontier:
        row, column = divmod(cell, 31)
        for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            to = 31 * y + x
            if 0 <= y < 23 and 0 <= x < 31 and not wall[to] and to not in distance:
                distance[to] = distance[cell] + 1
                frontier.append(to)
    values = deterministic_values(environment, 1.0, -1000.0)
    assert len(distance) > 300
    for cell in range(1, 31 * 23):
        if not wall[cell]:
            assert values[cell] == -distance.get(cell, 1000)
    draws = mix64.py_func(np.arange(5000, dtype=np.uint64))
    starts = {int(environment.reset(environment.model, draw)) for draw in draws}
    assert starts == {cell for cell in range(1, 31 * 23) if not wall[cell]}


def test_values_with_a_discount_and_none_where_they_do_not_settle():
    environment = make("Gridworld", width=4, height=2)
    values = deterministic_values(environment, 0.5, -2.0)
    assert values[1:].tolist() == [-1, -1.5, -1.75, -1, -1.5, -1.75, -1.875]
    assert deterministic_values(environment, 1.0, -100.0, sweeps=1) is None
