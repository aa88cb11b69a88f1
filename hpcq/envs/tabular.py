"""Environments given as tables of transitions: Gymnasium's toy-text models, and random ones.

A table holds, for every state and action, up to K outcomes: probability, next state, reward,
terminated. It can be stepped in a kernel and solved exactly.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment, integer
from hpcq.envs.rules import Rules
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import unit_interval
from hpcq.spaces.actions import numbered
from hpcq.spaces.masks import bitsets


class TableModel(NamedTuple):
    """A Markov decision process as arrays over (states S, actions A, outcomes K)."""

    probability: NDArray[np.float64]
    """(S, A, K), 0 where there are fewer outcomes"""
    cumulative: NDArray[np.float64]
    """(S, A, K), cumulative sum of `probability`"""
    next: NDArray[np.int64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    outcomes: NDArray[np.void]
    """(S A K,), next, reward and terminated as records: one cache line per step"""
    start: NDArray[np.float64]
    """(S,), the probability that an episode starts there"""
    start_cumulative: NDArray[np.float64]
    start_guide: NDArray[np.int64]
    """(m,), m a power of two: the first state whose cumulative probability exceeds j / m"""
    legal: NDArray[np.uint64]
    """(S,), or (S, words), bitsets of the legal actions; or empty where all are"""


_OUTCOME = np.dtype([("reward", "f8"), ("next", "u4"), ("terminated", "?")], align=True)


def table_model(
    probability: NDArray,
    next_: NDArray,
    reward: NDArray,
    terminated: NDArray,
    start: NDArray,
    legal: NDArray | None = None,
) -> TableModel:
    """Return the model with its cumulative sums; shapes as in `TableModel`."""
    outcomes = np.empty(next_.size, _OUTCOME)
    outcomes["next"], outcomes["reward"] = next_.ravel(), reward.ravel()
    outcomes["terminated"] = terminated.ravel()
    sums, guide = start_tables(start)
    return TableModel(
        np.ascontiguousarray(probability, np.float64),
        np.cumsum(probability, axis=2),
        np.ascontiguousarray(next_, np.int64),
        np.ascontiguousarray(reward, np.float64),
        np.ascontiguousarray(terminated, np.bool_),
        outcomes,
        np.ascontiguousarray(start, np.float64),
        sums,
        guide,
        np.zeros(0, np.uint64) if legal is None else np.ascontiguousarray(legal, np.uint64),
    )


def start_tables(start: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return `start_cumulative` and `start_guide` of `TableModel`."""
    sums = np.cumsum(start, dtype=np.float64)
    guides = 1 << (2 * sums.size).bit_length()
    return sums, np.searchsorted(sums, np.arange(guides) / guides * sums[-1], side="right")


@kernel
def reset(model: Any, draw: np.uint64) -> Any:
    """Return a start state: the first whose cumulative probability exceeds the draw.

    Chen and Asau, "On generating random variates from an empirical distribution", AIIE Transactions
    6, 1974: a guide table leaves less than one step of the search, on average.
    """
    sums, guide = model.start_cumulative, model.start_guide
    u = unit_interval(draw)
    state, last = guide[np.uint64(u * guide.size)], sums.size - 1
    u *= sums[last]
    while state < last and sums[state] <= u:
        state += 1
    return np.uint64(state)


@kernel
def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
    """Return (next state, reward, terminated): the first outcome that exceeds the draw."""
    s = np.int64(key)
    u = unit_interval(draw)
    _, actions, outcomes = model.cumulative.shape
    k, last = 0, outcomes - 1
    while k < last and model.cumulative[s, action, k] <= u:
        k += 1
    outcome = model.outcomes[np.uint64((s * actions + action) * outcomes + k)]
    return np.uint64(outcome.next), outcome.reward, outcome.terminated


@inlined
def outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
    """Return outcome k: (probability, next state, reward, terminated)."""
    state: Any = np.int64(key)
    _, actions, outcomes = model.probability.shape
    found = model.outcomes[np.uint64((state * actions + action) * outcomes + k)]
    probability = model.probability[state, action, k]
    return probability, np.uint64(found.next), found.reward, found.terminated


@inlined
def start(model: Any, i: int) -> Any:
    """Return (probability, start state i)."""
    return model.start[i], np.uint64(i)


@kernel
def _legal(model: Any, key: np.uint64) -> Any:
    return model.legal[np.int64(key)]


@kernel
def _legal_of_many(model: Any, key: np.uint64, mask: NDArray[np.uint64]) -> None:
    for word in range(mask.size):
        mask[word] = model.legal[np.int64(key), word]


def legal_of(model: Any) -> Any:
    """Return the kernel `legal` for a model's bitsets of legal actions; None where all are."""
    if not model.legal.size:
        return None
    return _legal_of_many if model.legal.ndim > 1 else _legal


def from_transitions(transitions: dict, start: NDArray, legal: NDArray | None = None) -> TableModel:
    """Build a model from ``P[state][action] = [(probability, next, reward, terminated), ...]``."""
    states, actions = len(transitions), len(transitions[0])
    outcomes = max(len(t) for row in transitions.values() for t in row.values())
    shape = (states, actions, outcomes)
    probability, next_ = np.zeros(shape), np.zeros(shape, np.int64)
    reward, terminated = np.zeros(shape), np.zeros(shape, np.bool_)
    for s, row in transitions.items():
        for a, found in row.items():
            for k, (p, to, r, end) in enumerate(found):
                probability[s, a, k], next_[s, a, k] = p, to
                reward[s, a, k], terminated[s, a, k] = r, end
            # A draw beyond the sum, by rounding, takes the last real outcome.
            for k in range(len(found), outcomes):
                next_[s, a, k], reward[s, a, k] = found[-1][1], found[-1][2]
                terminated[s, a, k] = found[-1][3]
    return table_model(probability, next_, reward, terminated, start, legal)


def garnet(states: int, actions: int, branching: int = 5, seed: int = 0) -> TableModel:
    """Return a random model: every (state, action) leads to `branching` distinct states.

    Archibald, McKinnon, Thomas, "On the generation of Markov decision processes", Journal of
    the Operational Research Society 46, 1995. Probabilities are the gaps between uniform cuts of
    [0, 1]; a standard normal reward belongs to the (state, action). Nothing terminates; episodes
    start anywhere.
    """
    rng = np.random.default_rng(seed)
    shape = (states, actions, branching)
    next_ = np.sort(rng.integers(states, size=shape), axis=2)
    while (again := (next_[:, :, 1:] == next_[:, :, :-1]).any(axis=2)).any():
        # Redraw one number per row: whole rows of nearly all states would never be distinct.
        place = np.argmax(next_[again][:, 1:] == next_[again][:, :-1], axis=1)
        redrawn = next_[again]
        redrawn[np.arange(place.size), place] = rng.integers(states, size=place.size)
        next_[again] = np.sort(redrawn, axis=1)
    cuts = np.sort(rng.random((states, actions, branching - 1)), axis=2)
    edges = np.concatenate(
        [np.zeros((states, actions, 1)), cuts, np.ones((states, actions, 1))], axis=2
    )
    reward = np.broadcast_to(rng.standard_normal((states, actions, 1)), shape)
    return table_model(
        np.diff(edges, axis=2),
        next_,
        reward,
        np.zeros(shape, np.bool_),
        np.full(states, 1.0 / states),
    )


def garnet_environment(
    max_episode_steps: int | None, *, states: int, actions: int, branching: int = 5, seed: int = 0
) -> CompiledEnvironment:
    """Return a Garnet environment: job id ``hpcq/Garnet-v0``."""
    for name, value, least, most in (
        ("states", states, 1, 1_000_000),
        ("actions", actions, 1, 65_536),
        ("branching", branching, 1, states),
        ("seed", seed, 0, (1 << 63) - 1),
    ):
        integer("hpcq/Garnet-v0", name, value, least, most)
    return table_environment(
        "hpcq/Garnet-v0", garnet(states, actions, branching, seed), max_episode_steps
    )


def table_environment(
    id_: str,
    model: TableModel,
    max_episode_steps: int | None,
    observation: dict[str, Any] | None = None,
) -> CompiledEnvironment:
    """Wrap a model whose states and actions are numbered from 0.

    `observation` describes a space (see `codec.describe`) whose keys are the states; default: the
    states' numbers.
    """
    states, actions, _ = model.probability.shape
    observation = observation or {"kind": "Discrete", "n": states, "start": 0}
    return CompiledEnvironment(
        id_,
        observation,
        actions,
        numbered(actions),
        model,
        reset,
        step,
        max_episode_steps,
        self_play=False,
        legal=legal_of(model),
        rules=Rules(outcome, model.probability.shape[2], start, states),
    )


# Of all versions of Gymnasium.
TOY_TEXT = (
    "Taxi-v4",
    "Taxi-v3",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "CliffWalking-v0",
    "CliffWalkingSlippery-v1",
)


def from_toy_text(env: Any, id_: str) -> CompiledEnvironment:
    """Compile a Gymnasium toy-text environment from its own table ``env.unwrapped.P``.

    Taxi's masks are those that it gives as ``info["action_mask"]``.
    """
    inner, masks = env.unwrapped, None
    if hasattr(inner, "action_mask"):
        masks = bitsets(np.array([inner.action_mask(state) for state in range(len(inner.P))]))
    return table_environment(
        id_,
        from_transitions(inner.P, inner.initial_state_distrib, masks),
        env.spec.max_episode_steps,
    )
