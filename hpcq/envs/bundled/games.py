"""Games of two players who take turns: against an opponent, or against oneself.

A game is two kernels over positions as the player to move sees them,

    legal(model, key)      -> uint64 bitset of the moves that the rules allow
    play(model, key, move) -> (key as the other player sees it, GOES_ON | WON | DRAWN)

and a model with the fields `start` (a key), `loss` and `best` (bitsets of best moves, by key).
Winning pays 1, losing `loss`, a draw 0; an illegal move loses at once. Against an opponent, a step
is a move and the opponent's reply, and the opponent opens half of the games. In self-play a step is
one move: the next observation is the other player's, so the job needs
`learning.rule = "negamax"`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hpcq.envs.bundled import mnk_game
from hpcq.envs.bundled import nim as nim_rules
from hpcq.envs.bundled.mnk_game import GOES_ON, WON, bit
from hpcq.envs.protocol import CompiledEnvironment, choice, integer, number
from hpcq.envs.rules import Rules, always, deterministic
from hpcq.errors import JobError
from hpcq.hashing import hi64
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import second_draw, unit_interval
from hpcq.spaces.actions import numbered

OPPONENTS = ("self", "random", "perfect")


@kernel
def pick(bits: np.uint64, draw: np.uint64) -> int:
    """Return a member of a bitset that is not empty, uniformly."""
    left, count = bits, 0
    while left != np.uint64(0):
        left &= left - np.uint64(1)
        count += 1
    skip = hi64(draw, np.uint64(count))
    while skip > np.uint64(0):
        bits &= bits - np.uint64(1)
        skip -= np.uint64(1)
    place = 0
    while bits & bit(place) == np.uint64(0):
        place += 1
    return place


@inlined
def _nth(bits: np.uint64, n: int) -> Any:
    """Return (how many members a bitset has, the n-th of them)."""
    count, found, place = 0, -1, 0
    while bits != np.uint64(0):
        if bits & np.uint64(1) != np.uint64(0):
            if count == n:
                found = place
            count += 1
        bits >>= np.uint64(1)
        place += 1
    return count, found


@kernel
def best(model: Any, key: np.uint64) -> Any:
    """Return the bitset of the best moves."""
    return model.best[np.int64(key)]


def _self_play(legal: Any, play: Any) -> tuple[Any, Any]:
    """Return the kernels (reset, step) of a game in which a step is one move."""

    @kernel
    def reset(model: Any, draw: np.uint64) -> Any:
        return model.start

    @kernel
    def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
        if legal(model, key) & bit(action) == np.uint64(0):
            return key, model.loss, True
        key, outcome = play(model, key, action)
        return key, 1.0 if outcome == WON else 0.0, outcome != GOES_ON

    return reset, step


def _against(replies: Any, legal: Any, play: Any) -> tuple[Any, Any, Any, Any]:
    """Return the kernels (reset, step, outcome, start) of a game with a reply to every move.

    replies   kernel: replies(model, key) -> bitset of the moves from which the opponent draws
    """

    @kernel
    def reset(model: Any, draw: np.uint64) -> Any:
        if unit_interval(draw) < 0.5:
            return model.start
        return play(model, model.start, pick(replies(model, model.start), second_draw(draw)))[0]

    @kernel
    def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
        if legal(model, key) & bit(action) == np.uint64(0):
            return key, model.loss, True
        key, outcome = play(model, key, action)
        moves = replies(model, key)
        # Positions that no game reaches, from a file, may leave a perfect opponent without a move.
        if outcome != GOES_ON or moves == np.uint64(0):
            return key, 1.0 if outcome == WON else 0.0, True
        key, outcome = play(model, key, pick(moves, draw))
        return key, model.loss if outcome == WON else 0.0, outcome != GOES_ON

    @inlined
    def outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
        # Outcome k is the k-th reply that the opponent may draw.
        if legal(model, key) & bit(action) == np.uint64(0):
            return 1.0 if k == 0 else 0.0, np.uint64(key), model.loss, True
        after, ended = play(model, key, action)
        moves = replies(model, after)
        if ended != GOES_ON or moves == np.uint64(0):
            return 1.0 if k == 0 else 0.0, after, 1.0 if ended == WON else 0.0, True
        count, move = _nth(moves, k)
        if move < 0:
            return 0.0, after, 0.0, True
        after, ended = play(model, after, move)
        return 1.0 / count, after, model.loss if ended == WON else 0.0, ended != GOES_ON

    @inlined
    def start(model: Any, i: int) -> Any:
        if i == 0:
            return 0.5, np.uint64(model.start)
        count, move = _nth(replies(model, model.start), i - 1)
        if move < 0:
            return 0.0, np.uint64(model.start)
        return 0.5 / count, play(model, model.start, move)[0]

    return reset, step, outcome, start


def solve(model: Any, legal: Callable, play: Callable) -> dict[int, tuple[int, int]]:
    """Return {key: (value for the player to move, bitset of best moves)} of all positions.

    The values are -1, 0, 1, by the recursion value(s) = max over moves of -value(s').
    """
    found: dict[int, tuple[int, int]] = {}

    def value(key: int) -> int:
        if key not in found:
            most, moves = -2, 0
            allowed = int(legal(model, np.uint64(key)))
            for move in range(allowed.bit_length()):
                if not allowed >> move & 1:
                    continue
                after, outcome = play(model, np.uint64(key), move)
                if outcome == GOES_ON:
                    worth = -value(int(after))
                else:
                    worth = 1 if outcome == WON else 0
                if worth > most:
                    most, moves = worth, 0
                if worth == most:
                    moves |= 1 << move
            found[key] = most, moves
        return found[key][0]

    value(int(model.start))
    return found


def _environment(
    id_: str,
    model: Any,
    game: Any,
    nvec: list,
    actions: int,
    opponent: str,
    max_episode_steps: int | None,
) -> CompiledEnvironment:
    """Make an environment of a game; `game` is the module with its kernels."""
    choice(id_, "opponent", opponent, OPPONENTS)
    replies = game.legal
    if opponent == "perfect":
        keys = math.prod(np.ravel(nvec).tolist())
        if keys > 1 << 20:
            raise JobError(
                f"{id_}: opponent = 'perfect' needs a list of all {keys:,} positions, expected at "
                "most 2**20; take opponent = 'self' or 'random', or a smaller game"
            )
        moves = np.zeros(keys, np.uint64)
        for key, (_, bits) in solve(model, game.legal, game.play).items():
            moves[key] = bits
        model = model._replace(best=moves)
        replies = best
    if opponent == "self":
        reset, step = _self_play(game.legal, game.play)
        rules = Rules(deterministic(step), 1, always(reset), 1)
    else:
        reset, step, outcome, start = _against(replies, game.legal, game.play)
        rules = Rules(outcome, actions, start, 1 + actions)
    observation = {
        "kind": "MultiDiscrete",
        "nvec": nvec,
        "start": np.zeros(np.shape(nvec), int).tolist(),
    }
    return CompiledEnvironment(
        id_,
        observation,
        actions,
        numbered(actions),
        model,
        reset,
        step,
        max_episode_steps,
        self_play=opponent == "self",
        legal=game.legal,
        rules=rules,
    )


_NO_MOVES = np.zeros(0, np.uint64)


def _loss(id_: str, value: float) -> float:
    return number(id_, "loss", value, -1e9, 0)


def tictactoe(
    max_episode_steps: int | None, *, opponent: str = "self", loss: float = -1.0
) -> CompiledEnvironment:
    """Return tic-tac-toe: job id ``hpcq/TicTacToe-v0``.

    Against the random opponent the best player takes risks where a loss costs no more than a win
    brings: a `loss` of -10 makes never losing the optimum.
    """
    id_ = "hpcq/TicTacToe-v0"
    board = mnk_game.Board(3, 3, 3, False, np.uint64(0), _loss(id_, loss), _NO_MOVES)
    return _environment(id_, board, mnk_game, [[3] * 3] * 3, 9, opponent, max_episode_steps)


def connect_four(
    max_episode_steps: int | None,
    *,
    width: int = 4,
    height: int = 4,
    length: int = 4,
    opponent: str = "self",
    loss: float = -1.0,
) -> CompiledEnvironment:
    """Return Connect Four on a board of any size: job id ``hpcq/ConnectFour-v0``."""
    id_ = "hpcq/ConnectFour-v0"
    integer(id_, "width", width, 1, 40)
    integer(id_, "height", height, 1, 40 // width)
    integer(id_, "length", length, 2, max(width, height, 2))
    board = mnk_game.Board(width, height, length, True, np.uint64(0), _loss(id_, loss), _NO_MOVES)
    return _environment(
        id_, board, mnk_game, [[3] * width] * height, width, opponent, max_episode_steps
    )


def nim(
    max_episode_steps: int | None, *, heaps: list[int], opponent: str = "self", loss: float = -1.0
) -> CompiledEnvironment:
    """Return Nim with `heaps` pieces in the heaps at the start: job id ``hpcq/Nim-v0``."""
    id_ = "hpcq/Nim-v0"
    if not isinstance(heaps, list) or not heaps:
        raise JobError(f"{id_}: heaps = {heaps!r}, expected a list such as [3, 5, 7]")
    for size in heaps:
        integer(id_, "heaps", size, 1, 63)
    actions = len(heaps) * max(heaps)
    if actions > 64:
        raise JobError(
            f"{id_}: heaps = {heaps} gives {actions} moves (heaps times the largest), "
            "expected at most 64"
        )
    radix = [size + 1 for size in heaps]
    stride = [math.prod(radix[place + 1 :]) for place in range(len(radix))]
    model = nim_rules.Heaps(
        np.array(stride, np.uint64),
        np.array(radix, np.uint64),
        max(heaps),
        np.uint64(math.prod(radix) - 1),
        _loss(id_, loss),
        _NO_MOVES,
    )
    return _environment(id_, model, nim_rules, radix, actions, opponent, max_episode_steps)
