"""The bundled problems' jobs, run as users run them, against known truths."""

import functools
import operator
from pathlib import Path

import numpy as np
import pytest
from launch import hpcq, summary
from soaked import soak
from truths import deterministic_values, rows

from hpcq.envs.bundled import games, nim
from hpcq.envs.bundled import mnk_game as board
from hpcq.envs.resolve import resolve
from hpcq.job.job import Job
from hpcq.learning import exact
from hpcq.run.summary import dense_table

JOBS = Path(__file__).parents[2] / "jobs"
# Long runs on one rank, which takes the least processor time and ends in the same table.
LONG = ("blackjack", "connect4", "cube", "eightpuzzle", "gridworld")
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Run a job of the project, once; return (environment, job, checkpoint)."""

    @functools.cache
    def trained(name, *overrides):
        directory = tmp_path_factory.mktemp(name)
        settings = [f"--set={text}" for text in (f"run.directory='{directory}/run'", *overrides)]
        hpcq(1 if name in LONG else 2, "run", JOBS / f"{name}.toml", *settings)
        job = Job.load(JOBS / f"{name}.toml", overrides)
        return resolve(job.environment), job, Path(summary(directory / "run")["checkpoint"])

    return trained


def has_line(position, player):
    return any(all(position[i] == player for i in line) for line in LINES)


def play_everything(table, replies):
    """Let the greedy player (1) meet every reply; return the set of outcomes.

    replies(position) gives the cells that the opponent (2) may take. All greedy moves are tried.
    """
    outcomes, seen = set(), set()

    def turn(position):
        if position in seen:
            return
        seen.add(position)
        q = table[functools.reduce(lambda key, cell: 3 * key + cell, position, 0)]
        for cell in np.flatnonzero(q == q.max()):
            if position[cell]:
                outcomes.add("illegal")
                continue
            after = (*position[:cell], 1, *position[cell + 1 :])
            if has_line(after, 1):
                outcomes.add("won")
            elif all(after):
                outcomes.add("drawn")
            else:
                answer(after)

    def answer(position):
        for cell in replies(position):
            after = (*position[:cell], 2, *position[cell + 1 :])
            if has_line(after, 2):
                outcomes.add("lost")
            elif all(after):
                outcomes.add("drawn")
            else:
                turn(after)

    turn((0,) * 9)
    answer((0,) * 9)
    return outcomes


def free_cells(position):
    return [cell for cell in range(9) if not position[cell]]


@pytest.mark.parametrize("name", ["tictactoe", *soak("tictactoe-random")])
def test_the_greedy_player_never_loses_tictactoe(name, train):
    _, _, path = train(name)
    assert play_everything(rows(path), free_cells) == {"won", "drawn"}


def test_the_greedy_player_draws_against_every_perfect_reply(train):
    environment, _, path = train("tictactoe-perfect")
    solved = games.solve(environment.model, board.legal, board.play)

    def replies(position):
        swapped = [(0, 2, 1)[cell] for cell in position]
        key = functools.reduce(lambda key, cell: 3 * key + cell, swapped, 0)
        return [cell for cell in range(9) if solved[key][1] >> cell & 1]

    assert play_everything(rows(path), replies) == {"drawn"}


@pytest.mark.parametrize(
    ("name", "game"), [("tictactoe", board), ("nim", nim), *soak(("connect4", board))]
)
def test_self_play_finds_the_value_and_the_best_moves_of_every_position(name, game, train):
    environment, _, path = train(name)
    solved = games.solve(environment.model, game.legal, game.play)
    table = rows(path)
    assert table.keys() == solved.keys()
    for key, (value, best) in solved.items():
        q = table[key]
        assert q.max() == value
        # An illegal move loses: in a lost position it is as good as any other.
        chosen = {
            a
            for a in np.flatnonzero(q == value)
            if game.legal(environment.model, np.uint64(key)) >> a & 1
        }
        assert chosen == {a for a in range(q.size) if best >> a & 1}


def test_the_greedy_player_wins_nim_from_every_won_position(train):
    _, job, path = train("nim")
    heaps = job.environment.kwargs["heaps"]
    won = 0
    for key, q in rows(path).items():
        position = [int(n) for n in np.unravel_index(key, [heap + 1 for heap in heaps])]
        if functools.reduce(operator.xor, position) == 0:
            continue
        won += 1
        for move in np.flatnonzero(q == q.max()):
            heap, take = divmod(int(move), max(heaps))
            after = position.copy()
            after[heap] -= take + 1
            assert after[heap] >= 0
            assert functools.reduce(operator.xor, after) == 0
    # The third heap makes the exclusive or 0 once for each size of the two others.
    assert won == 4 * 6 * 8 - 4 * 6


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("frozenlake", 0.01),
        ("inventory", 0.01),
        ("taxi-values", 1e-9),
        *soak(("queue", 0.01), ("cliffwalking-values", 1e-9)),
    ],
)
def test_the_learned_values_are_those_of_value_iteration(name, error, train):
    """Within `error` of the range of the values, in every state that was met."""
    exploring = {
        "taxi-values": ("learning.learning_rate=1.0", "exploration.epsilon=1.0"),
        "cliffwalking-values": ("learning.learning_rate=1.0", "exploration.epsilon=1.0"),
    }
    environment, job, path = train(name.removesuffix("-values"), *exploring.get(name, ()))
    truth = exact.value_iteration(environment.model, job.learning.gamma).max(axis=1)
    with_rows = sorted(rows(path))
    assert len(with_rows) > 10
    learned = dense_table(path, truth.size).max(axis=1)
    assert np.abs(learned - truth)[with_rows].max() <= error * np.ptp(truth)


@pytest.mark.parametrize(
    ("name", "truth", "error"),
    soak(("accesscontrol", 2.7476, 2e-3), ("inventory-average", -4.40, 0.02)),
)
def test_the_average_reward_is_learned(name, truth, error, train):
    _, _, path = train(name)
    assert abs(summary(path.parent)["reward_rate"] - truth) < error


def test_blackjack_is_played_as_the_exact_optimum_does(train):
    """Wherever the actions differ by more than 0.015 and each was taken 200,000 times."""
    environment, _, path = train("blackjack", "run.steps=150_000_000")
    truth = exact.value_iteration(environment.model, 1.0)
    visits = visits_of(path, truth.shape)
    clear = (np.abs(truth[:, 0] - truth[:, 1]) > 0.015) & (visits.min(axis=1) >= 200_000)
    learned = dense_table(path, truth.shape[0])
    assert clear.sum() > 80
    assert (learned.argmax(axis=1) == truth.argmax(axis=1))[clear].all()


def visits_of(path, shape):
    from hpcq.checkpoint.reader import opened, table_pieces
    from hpcq.hashing import unmix64

    found = np.zeros(shape, np.int64)
    with opened(path) as (file, header):
        for hashes, _, visits in table_pieces(file, header, 0, header.rows):
            found[unmix64.py_func(hashes).astype(np.int64)] = visits
    return found


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("eightpuzzle", ()),
        *soak(
            (
                "gridworld",
                ("environment.kwargs={width=100,height=80,walls=0.3}", "run.steps=20_000_000"),
            )
        ),
    ],
)
def test_the_greedy_policy_takes_the_shortest_way_from_every_position(name, overrides, train):
    environment, job, path = train(name, *overrides)
    least = job.learning.q_init
    truth = deterministic_values(environment, 1.0, least)
    learned = dense_table(path, truth.size)
    met = np.array(sorted(rows(path)))
    met = met[truth[met] > least]
    assert met.size > 5000
    assert (learned.max(axis=1) == truth)[met].all()


def test_the_cube_is_solved_optimally_near_home(train):
    """Every position at most 4 moves away; tests/long has all of them."""
    kwargs = "environment.kwargs={scramble=4}"
    environment, _, path = train(
        "cube",
        kwargs,
        "run.steps=20_000_000",
        "environment.max_episode_steps=4",
        "environment.count=4096",
    )
    truth = deterministic_values(environment, 1.0, -100.0)
    table = rows(path)
    near = np.flatnonzero(truth[1:] >= -4.0) + 1
    assert near.size == 9 + 54 + 321 + 1847
    assert all(table[key].max() == truth[key] for key in near.tolist())
