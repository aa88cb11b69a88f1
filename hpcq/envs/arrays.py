"""Models given as arrays in a file: sparse transition probabilities and rewards.

`environment.id` names an .npz or an HDF5 file with these arrays, S being the number of states, A of
actions, n of outcomes in all. States and actions are numbered from 0; the outcomes of action a in
state s are number ``indptr[s * A + a]`` ... ``indptr[s * A + a + 1] - 1``.

    start         float (S,)          probability that an episode starts there
    indptr        int (S * A + 1,)    non-decreasing, from 0 to n
    next          int (n,)            state that follows
    probability   float (n,)          those of an action add up to 1
    reward        float (n,), or (S * A,)
    terminated    bool (n,)           optional: whether the episode ends
    key           uint64 (S,)         optional, not used: what the states are elsewhere

Where an action has no outcomes, it is illegal, for jobs with ``environment.action_mask = true``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs import tabular
from hpcq.envs.protocol import MAX_REWARD, CompiledEnvironment
from hpcq.envs.rules import Rules
from hpcq.errors import JobError
from hpcq.jit.compiler import inlined, kernel
from hpcq.job.toml_io import DATA_FILES
from hpcq.rng import unit_interval
from hpcq.spaces.actions import numbered
from hpcq.spaces.masks import MOST_ACTIONS, bitsets

SUFFIXES = DATA_FILES

_REQUIRED = ("start", "indptr", "next", "probability", "reward")

# Probabilities may miss 1 by so much.
_ROUNDING = 1e-9


class SparseModel(NamedTuple):
    """A Markov decision process in compressed rows, one for each (state, action)."""

    actions: int
    indptr: NDArray[np.int64]
    next: NDArray[np.uint64]
    probability: NDArray[np.float64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    legal: NDArray[np.uint64]
    """(S,), or (S, words), bitsets of the actions that have outcomes; or empty where all have"""
    start: NDArray[np.float64]
    start_cumulative: NDArray[np.float64]
    start_guide: NDArray[np.int64]


@inlined
def outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
    """Return outcome k: (probability, next state, reward, terminated)."""
    row = np.int64(key) * model.actions + action
    i = model.indptr[row] + k
    if i >= model.indptr[row + 1]:
        return 0.0, np.uint64(key), 0.0, True
    return model.probability[i], model.next[i], model.reward[i], model.terminated[i]


@kernel
def step(model: Any, key: np.uint64, action: int, draw: np.uint64) -> Any:
    """Return (next state, reward, terminated): the first outcome that exceeds the draw."""
    row = np.int64(key) * model.actions + action
    i, last = model.indptr[row], model.indptr[row + 1] - 1
    # An illegal action, without masks: nothing happens, and the episode is over.
    if last < i:
        return np.uint64(key), 0.0, True
    left = unit_interval(draw)
    while i < last and left >= model.probability[i]:
        left -= model.probability[i]
        i += 1
    return model.next[i], model.reward[i], model.terminated[i]


def load(path: str, max_episode_steps: int | None) -> CompiledEnvironment:
    """Return the environment of a file.

    Raises
    ------
    JobError
        naming the array that is wrong, and what was expected.
    """
    try:
        arrays = _read(path)
        missing = [name for name in _REQUIRED if name not in arrays]
        if missing:
            raise ValueError(f"no array {missing[0]!r}; expected {', '.join(_REQUIRED)}")
        model = sparse_model(**{name: arrays[name] for name in arrays if name != "key"})
    except FileNotFoundError:
        raise JobError(f"environment.id: no file {path}") from None
    except (OSError, ValueError, TypeError) as error:
        raise JobError(f"environment.id = {path!r}: {error}") from None
    states = model.start.size
    most = int(np.diff(model.indptr).max())
    return CompiledEnvironment(
        Path(path).name,
        {"kind": "Discrete", "n": states, "start": 0},
        model.actions,
        numbered(model.actions),
        model,
        tabular.reset,
        step,
        max_episode_steps,
        self_play=False,
        legal=tabular.legal_of(model),
        rules=Rules(outcome, most, tabular.start, states),
    )


def _read(path: str) -> Mapping[str, NDArray]:
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    import h5py

    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in file}


def sparse_model(
    start: NDArray,
    indptr: NDArray,
    next: NDArray,
    probability: NDArray,
    reward: NDArray,
    terminated: NDArray | None = None,
    **others: NDArray,
) -> SparseModel:
    """Check arrays, and return the model.

    Raises
    ------
    ValueError
        naming the array that is wrong, and what was expected.
    """
    if others:
        raise ValueError(f"an array {min(others)!r} has no meaning")
    states, n = start.size, next.size
    actions = (indptr.size - 1) // max(1, states)
    if start.ndim != 1 or states < 1 or actions < 1 or indptr.shape != (states * actions + 1,):
        raise ValueError(f"indptr has the shape {indptr.shape}, expected states * actions + 1")
    rows: NDArray[np.int64] = np.diff(indptr.astype(np.int64)).astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != n or (rows < 0).any():
        raise ValueError(f"indptr must go up from 0 to the number of outcomes, {n:,}")
    terminated = np.zeros(n, np.bool_) if terminated is None else terminated
    per_row = reward.shape == (states * actions,) and states * actions != n
    reward = np.repeat(reward, rows) if per_row else reward
    for name, values in (
        ("probability", probability),
        ("reward", reward),
        ("terminated", terminated),
    ):
        if values.shape != (n,):
            raise ValueError(f"{name} has the shape {values.shape}, expected ({n},)")
    if n and not (0 <= next.min() and next.max() < states):
        raise ValueError(f"next has a value outside 0 ... {states - 1:,}")
    if not (probability >= 0).all() or not (start >= 0).all() or not start.sum() > 0:
        raise ValueError("probability and start must not be negative, and start not all 0")
    if not (np.abs(reward) <= MAX_REWARD).all():
        raise ValueError("reward has a value that is not finite, or above 1e30")
    filled = rows > 0
    sums = np.add.reduceat(probability, indptr[:-1][filled]) if n else np.zeros(0)
    wrong = np.flatnonzero(np.abs(sums - 1) > _ROUNDING)
    if wrong.size:
        row = int(np.flatnonzero(filled)[wrong[0]])
        raise ValueError(
            f"the probabilities of state {row // actions}, action {row % actions} add up to "
            f"{sums[wrong[0]]:.12g}, expected 1"
        )
    legal = np.zeros(0, np.uint64)
    if not filled.all():
        if actions > MOST_ACTIONS:
            raise ValueError(
                "actions without outcomes are illegal ones; that is for up to "
                f"{MOST_ACTIONS:,}, not {actions:,}"
            )
        has_outcomes = filled.reshape(states, actions)
        stuck = np.flatnonzero(~has_outcomes.any(axis=1))
        if stuck.size:
            raise ValueError(f"state {stuck[0]} has no action with an outcome")
        legal = bitsets(has_outcomes)
    cumulative, guide = tabular.start_tables(start)
    return SparseModel(
        actions,
        np.ascontiguousarray(indptr, np.int64),
        np.ascontiguousarray(next, np.uint64),
        np.ascontiguousarray(probability, np.float64),
        np.ascontiguousarray(reward, np.float64),
        np.ascontiguousarray(terminated, np.bool_),
        legal,
        np.ascontiguousarray(start, np.float64),
        cumulative,
        guide,
    )
