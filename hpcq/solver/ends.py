"""Whether episodes can end, and after how many steps at most: asked where gamma = 1."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import EnvironmentFault
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import prefetch_to_read
from hpcq.solver.space import StateSpace
from hpcq.solver.sweep import AHEAD, Policy, Segment

# Of an episode's greatest length, if it has one: how far to look for it.
_LONGEST = 10_000

# Probabilities of what goes on that add up to less than 1 by more than this: an episode may end.
MISSING = 1e-9


class Endless(EnvironmentFault):
    """From some states no episode can come to an end, and rewards are not discounted."""


def longest_episode(space: StateSpace) -> int | None:
    """Return the most steps of an episode; None if there is no such number, or a large one.

    Collective.
    """
    lengthen, _ = make_checks(space.actions, space.single)
    old, new = (np.zeros(space.states + space.halo.size + 1, np.int32) for _ in range(2))
    for sweep in range(_LONGEST):
        changed = sum(lengthen(segment, old, new) for segment in space.segments())
        if not space.comm.allreduce(changed):
            return sweep + 1
        space.halo.fill(new, space.states)
        old, new = new, old
    return None


def check_ends(space: StateSpace, policy: Policy, only: bool) -> None:
    """Refuse states from which no episode can end. Collective.

    Parameters
    ----------
    policy
        (states,), an action of each state.
    only
        whether only these actions are taken.

    Raises
    ------
    Endless
    """
    _, reach = make_checks(space.actions, space.single)
    ended = np.zeros(space.states + space.halo.size + 1, np.uint8)
    ended[-1] = 1
    while True:
        changed = sum(reach(segment, ended, policy, only) for segment in space.segments())
        space.halo.fill(ended, space.states)
        if not space.comm.allreduce(changed):
            break
    stuck = np.flatnonzero(ended[: space.states] == 0)
    found = space.key(int(stuck[0])) if stuck.size else None
    keys = [key for key in space.comm.allgather(found) if key is not None]
    if keys:
        total = space.comm.allreduce(stuck.size)
        raise Endless(
            f"{space.environment.id}: learning.gamma = 1, but from {space.text(min(keys))} no "
            f"episode can come to an end ({total:,} such states): sums of rewards have no limit; "
            "take gamma below 1"
        ).on_all_ranks()


@functools.cache
def make_checks(actions: int, single: bool) -> tuple[Any, Any]:
    """Return the kernels that say whether episodes end, of vectors like that of the values."""

    @inlined
    def outcomes_of(segment: Segment, row: Any) -> Any:
        if single:
            return row, row + 1
        start: Any = np.int64(0)
        if row > 0:
            start = np.int64(segment.ends[row - 1])
        return start, np.int64(segment.ends[row])

    @kernel
    def lengthen(segment: Segment, length: NDArray[np.int32], new: NDArray[np.int32]) -> int:
        """Write 1 + the longest `length` of what may follow; return how many states changed."""
        changed, row, end = 0, 0, length.size - 1
        for state in range(segment.first, segment.first + segment.states):
            longest = np.int32(0)
            for _ in range(actions):
                start, stop = outcomes_of(segment, row)
                for i in range(start, stop):
                    place = np.int64(segment.places[i])
                    if place != end:
                        longest = max(longest, np.int32(length[place] + 1))
                row += 1
            changed += longest != length[state]
            new[state] = longest
        return changed

    @kernel
    def reach(segment: Segment, ended: NDArray[np.uint8], policy: Policy, only: bool) -> int:
        """Note which states can come to where it has `ended`; return how many are new.

        ended  uint8, in and out: in place, for there is one answer whatever the order of states
        only   by the policy's actions, not by any
        """
        changed: Any = 0
        step = np.int64(segment.reward.size > 1)
        for state in range(segment.first, segment.first + segment.states):
            if ended[state]:
                continue
            first, can = (state - segment.first) * actions, np.uint8(0)
            for row in range(first, first + actions):
                if segment.reward[row * step] == -np.inf:
                    continue
                if only and row - first != np.int64(policy[state]):
                    continue
                start, stop = outcomes_of(segment, row)
                total = np.float64(single)
                for i in range(start, stop):
                    prefetch_to_read(ended, np.uint64(segment.places[i + AHEAD]))
                    can |= ended[np.uint64(segment.places[i])]
                    if not single:
                        total += segment.probability[i]
                # What is missing to 1 ends the episode.
                can |= np.uint8(total < 1.0 - MISSING)
            changed += np.int64(can)
            ended[state] = can
        return changed

    return lengthen, reach
