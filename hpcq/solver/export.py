"""The outcomes of all states as arrays, in the layout that envs/arrays.py reads."""

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import keys_of
from hpcq.solver.ends import MISSING
from hpcq.solver.space import StateSpace
from hpcq.solver.sweep import Segment


def arrays_of(space: StateSpace) -> dict[str, NDArray]:
    """Return a state space of one rank as arrays.

    A reward is that expected of the action; all that ends an episode is one outcome, which stays in
    the same state.
    """
    parts = [_outcomes(part, space) for part in space.segments()]
    counts, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = "next", "probability", "reward", "terminated"
    return {
        "start": _starts(space),
        "key": keys_of(space.hashes),
        "indptr": np.concatenate([[0], np.cumsum(counts)]),
        **dict(zip(names, columns, strict=True)),
    }


def _starts(space: StateSpace) -> NDArray[np.float64]:
    starts, order = np.zeros(space.states), space.order
    sorted_hashes = space.hashes[order]
    for hashes, probability in space.starts():
        at = np.searchsorted(sorted_hashes, hashes)
        np.add.at(starts, order[at], probability)
    return starts


def _outcomes(part: Segment, space: StateSpace) -> tuple[NDArray, ...]:
    """Return how many outcomes each (state, action) of a segment has, and their columns."""
    rows = part.states * space.actions
    reward = np.broadcast_to(part.reward, rows) if part.reward.size == 1 else part.reward
    ends = np.arange(1, rows + 1) if space.single else part.ends.astype(np.int64)
    places = part.places[: ends[-1]].astype(np.int64)
    chance = np.ones(rows) if space.single else part.probability[: ends[-1]]
    row = np.repeat(np.arange(rows), np.diff(ends, prepend=0))
    # Of one outcome each, those that end the episode have the place behind all states.
    goes_on, legal = places != space.states, reward > -np.inf
    sums = np.bincount(row[goes_on], chance[goes_on], rows)
    ending = np.flatnonzero(legal & (sums < 1 - MISSING))
    row = np.concatenate([row[goes_on], ending])
    order = np.argsort(row, kind="stable")
    following = np.concatenate([places[goes_on], part.first + ending // space.actions])
    probability = np.concatenate([chance[goes_on], 1 - sums[ending]])
    return (
        np.bincount(row, minlength=rows),
        following[order],
        probability[order],
        reward[row[order]],
        (np.arange(row.size) >= goes_on.sum())[order],
    )
