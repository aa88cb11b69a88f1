"""Tic-tac-toe, Connect Four and Nim against independent rules and published counts."""

import functools
import operator

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.bundled import games, mnk_game, nim
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import mix64
from hpcq.job.environment_section import EnvironmentSection
from hpcq.learning.lockstep import LockstepLearner

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def make(name, **kwargs):
    return resolve(EnvironmentSection(id=f"hpcq/{name}-v0", kwargs=kwargs))


def key_of(board):
    return functools.reduce(lambda key, cell: 3 * key + cell, board, 0)


@functools.cache
def tictactoe_value(board):
    """Return the value for the player to move, whose stones are 1."""
    if any(all(board[i] == 2 for i in line) for line in LINES):
        return -1
    moves = [i for i in range(9) if board[i] == 0]
    swapped = tuple((0, 2, 1)[cell] for cell in board)
    after = [(*swapped[:i], 2, *swapped[i + 1 :]) for i in moves]
    return max((-tictactoe_value(b) for b in after), default=0)


def test_tictactoe_is_solved_as_by_independent_rules():
    model = make("TicTacToe").model
    found = games.solve(model, mnk_game.legal, mnk_game.play)
    tictactoe_value.cache_clear()
    assert tictactoe_value((0,) * 9) == 0
    # 5,478 positions occur, in 958 of them the game is over.
    assert len(found) == 5478 - 958 == 4520

    def compare(board):
        stack, seen = [board], set()
        while stack:
            board = stack.pop()
            if board in seen or any(all(board[i] == 2 for i in line) for line in LINES):
                continue
            seen.add(board)
            if all(board):
                continue
            assert found[key_of(board)][0] == tictactoe_value(board)
            swapped = tuple((0, 2, 1)[cell] for cell in board)
            stack += [(*swapped[:i], 2, *swapped[i + 1 :]) for i in range(9) if not board[i]]

    compare((0,) * 9)


# John Tromp, "John's Connect Four Playground": legal positions, and who wins (= nobody).
def test_connect_four_has_the_published_positions_and_value():
    model = make("ConnectFour").model
    found = games.solve(model, mnk_game.legal, mnk_game.play)
    assert found[0][0] == 0
    every = {0}
    for key, _ in found.items():
        allowed = int(mnk_game.legal(model, np.uint64(key)))
        for move in range(4):
            if allowed >> move & 1:
                every.add(int(mnk_game.play(model, np.uint64(key), move)[0]))
    assert len(every) == 161_029


def test_stones_fall_and_full_columns_are_closed():
    model = make("ConnectFour", width=4, height=2).model
    key, _ = mnk_game.play(model, model.start, 2)
    # The other's stone (2) lies at the bottom of the third column.
    assert key == key_of((0, 0, 0, 0, 0, 0, 2, 0))
    key, _ = mnk_game.play(model, np.uint64(key), 2)
    assert key == key_of((0, 0, 2, 0, 0, 0, 1, 0))
    assert mnk_game.legal(model, np.uint64(key)) == 0b1011


@pytest.mark.parametrize("heaps", [[3, 5, 7], [1, 2, 3, 4], [6]])
def test_nim_follows_boutons_theory(heaps):
    environment = make("Nim", heaps=heaps)
    model = environment.model
    radix = [heap + 1 for heap in heaps]
    found = games.solve(model, nim.legal, nim.play)
    assert len(found) == np.prod(radix) - 1
    for key, (value, best) in found.items():
        position = np.unravel_index(key, radix)
        xor = functools.reduce(operator.xor, map(int, position))
        assert (value == 1) == (xor != 0)
        for move in range(environment.actions):
            heap, take = divmod(move, max(heaps))
            good = take < position[heap] and xor ^ position[heap] ^ (position[heap] - take - 1) == 0
            if value == 1:
                assert good == bool(best >> move & 1)


def test_an_illegal_move_loses_at_once():
    for opponent in games.OPPONENTS:
        environment = make("TicTacToe", opponent=opponent, loss=-3.0)
        taken = np.uint64(3**8 + 2 * 3**4)
        draw = np.uint64(7)
        assert environment.step(environment.model, taken, 0, draw)[1:] == (-3.0, True)
        assert not environment.step(environment.model, taken, 1, draw)[2]
    environment = make("Nim", heaps=[2, 3])
    # Heap 0 has two pieces: take 3 of it.
    assert environment.step(environment.model, environment.model.start, 2, draw)[1:] == (-1.0, True)


def test_the_negamax_target_is_the_reward_less_what_the_other_player_gets():
    script = [(1, 2.0, False, False), (2, 3.0, False, True), (3, 5.0, True, False)]
    job = make_job.make(
        {"id": "problems:Scripted-v0", "kwargs": {"script": script}, "count": 1},
        learning={"rule": "negamax", "gamma": 0.5, "learning_rate": 1.0, "q_init": 100.0},
    )
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    for _ in range(3):
        learner.advance()
    hashes = [int(mix64.py_func(np.array([key], np.uint64))[0]) for key in range(2)]
    # Truncated in 2, whose value is 100, too.
    assert [learner.shard.row(hash_)[0] for hash_ in hashes] == [2 - 0.5 * 100, 3 - 0.5 * 100]
    learner.advance()
    assert learner.shard.row(hashes[0])[0] == 5
    learner.close()


def test_opponents_reply_with_their_moves_and_open_half_of_the_games():
    draws = mix64.py_func(np.arange(2000, dtype=np.uint64))
    for opponent, opening_replies in (("random", set(range(1, 9))), ("perfect", {4})):
        environment = make("TicTacToe", opponent=opponent)
        model = environment.model
        starts = [int(environment.reset(model, draw)) for draw in draws]
        assert abs(starts.count(0) / len(starts) - 0.5) < 0.05
        # Every first move is a best one.
        assert {key for key in starts if key} == {2 * 3**i for i in range(9)}
        # The only good answer to a corner is the centre.
        replies = {int(environment.step(model, np.uint64(0), 0, draw)[0]) - 3**8 for draw in draws}
        assert replies == {2 * 3 ** (8 - i) for i in opening_replies}


def test_pick_is_uniform():
    draws = mix64.py_func(np.arange(30_000, dtype=np.uint64))
    places = [games.pick(np.uint64(0b1000_0000_0000_0101), draw) for draw in draws]
    counts = [places.count(place) for place in (0, 2, 15)]
    assert sum(counts) == 30_000
    assert max(counts) - min(counts) < 600


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("TicTacToe", {"opponent": "me"}, "opponent = 'me', expected one of self, random, perfect"),
        ("TicTacToe", {"oponent": "self"}, "unexpected.*'oponent'; expected optionally opponent"),
        ("ConnectFour", {"width": 7, "height": 6}, "height = 6, expected an integer in 1 ... 5"),
        ("ConnectFour", {"opponent": "perfect"}, "43,046,721 positions, expected at most 2"),
        ("Nim", {}, "missing 1 required.*'heaps'; expected heaps, and optionally opponent, loss"),
        ("Nim", {"heaps": []}, r"heaps = \[\], expected a list"),
        ("Nim", {"heaps": [9, 30, 2]}, "gives 90 moves"),
        ("Nimm", {}, "'hpcq/Nimm-v0' is not one of hpcq's: hpcq/Garnet-v0"),
    ],
)
def test_mistakes_are_explained(name, kwargs, message):
    with pytest.raises(JobError, match=message):
        make(name, **kwargs)
