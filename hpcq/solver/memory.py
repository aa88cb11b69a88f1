"""What a rank takes in memory to find all states and to solve them: before it does, and at most."""

from typing import NamedTuple

from hpcq.solver.iteration import PASSES
from hpcq.solver.numbering import nbytes_for
from hpcq.solver.outcomes import BLOCK_OUTCOMES

# Of a block of outcomes, of what is sent of it and received, and of a piece of a checkpoint.
BUFFERS = 96 << 20


class Shape(NamedTuple):
    """What is known of a rank's states before they are found."""

    states: int
    others: int
    """states of other ranks to which these lead"""
    actions: int
    outcomes: int
    """most of an action"""
    keeps: bool
    """see `solve.keep_outcomes`"""
    starts: int = 0
    """start states of this rank"""
    all_starts: int = 0
    """of all ranks"""


def most_others(states: int, total: int, actions: int, outcomes: int) -> int:
    """Return to how many states of others those of a rank can lead, of so many in all."""
    return min(total - states, states * actions * outcomes)


def kept(shape: Shape) -> int:
    """Return the bytes of all outcomes, if every action has all its outcomes; without rewards."""
    places = shape.actions * shape.outcomes
    several = 0 if shape.outcomes == 1 else 8 * places + 4 * shape.actions
    return shape.states * (4 * places + several) if shape.keeps else 0


def rewards(shape: Shape) -> int:
    """Return the bytes of all rewards, where they differ."""
    return shape.states * 8 * shape.actions if shape.keeps else 0


def tables(shape: Shape) -> int:
    """Return the bytes of what gives states their numbers."""
    found = sum(nbytes_for(n + BLOCK_OUTCOMES) for n in (shape.states, shape.others))
    return found + 8 * shape.others + (0 if shape.keeps else 4 * shape.others)


def finding(shape: Shape) -> int:
    """Return the bytes while states are found, without the outcomes."""
    return 8 * shape.states + tables(shape) + 4 * shape.others + 20 * BLOCK_OUTCOMES


def solving(shape: Shape) -> int:
    """Return the bytes while the solution is computed and saved, without the outcomes."""
    vectors = 16 * (shape.states + shape.others) + 2 * shape.states + 4 * shape.others
    part = 8 * shape.actions * (-(-shape.states // PASSES))
    # Their order, which is 64 bits wide when it is made and searched, and the places in it.
    starts = 80 * shape.starts + 16 * shape.all_starts
    order = 4 * shape.states + max(8 * shape.states + starts, 4 * shape.states + part)
    return 8 * shape.states + vectors + order + (0 if shape.keeps else tables(shape))


def peak(shape: Shape, outcomes: int) -> int:
    """Return the most bytes at any time, with so many for the outcomes."""
    return max(finding(shape), solving(shape)) + outcomes + BUFFERS
