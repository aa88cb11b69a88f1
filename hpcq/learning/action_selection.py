"""What rules and policies do with a row: kernels for a number of actions, tables and masks.

Sets of actions are bitsets, of up to 64 actions a single word. Where the environment says which
actions are legal, the others are left out; jobs without masks pay nothing for that.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK, MAX_HASH
from hpcq.jit.compiler import inlined
from hpcq.jit.simd import WIDTH, at_least, nth, size_of
from hpcq.spaces.mask_kernels import has_bit, word_of
from hpcq.spaces.masks import words_of

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_TABLE_BITS = np.uint64(0xFFFF)
_NONE, _PLACE = np.uint64(0), np.uint64(WIDTH - 1)

QTable = NDArray[np.floating]


class Words(NamedTuple):
    """A mask of several words."""

    words: NDArray[np.uint64]
    """(words,)"""
    fill: np.uint64
    """what is or-ed to each: all bits where the mask is empty"""


# A uint64, or `Words`.
Mask = Any


class Query(NamedTuple):
    """A query as its owner answers it, with the row of the state."""

    q: QTable
    """(rows, tables * actions), the actions of table 0 first"""
    visits: NDArray[np.uint32]
    """updates so far, as q; or (rows, 0) where they are not counted"""
    slot: np.uint64
    """the row of the state"""
    mask: Mask
    """the legal actions"""
    best: float
    """the largest behaviour value of the legal actions"""
    draw: np.uint64
    """64 random bits"""
    parameter: float
    """the policy's, at this step"""


class RowKernels(NamedTuple):
    """The kernels that a rule or a policy may use, for rows of `tables` times `actions` values.

    q (rows, tables * actions) are the values, the actions of table 0 first; `slot` is the row,
    `mask` the legal actions, `draw` 64 random bits.
    """

    actions: int
    tables: int
    options: tuple[tuple[str, Any], ...]
    """the rule's own keys of the job: names and values"""
    is_legal: Callable[[Mask, int], bool]
    """is_legal(mask, action)"""
    behaviour_value: Callable[[QTable, np.uint64, int], float]
    """behaviour_value(q, slot, action): what the policy acts on, all tables combined"""
    largest: Callable[[QTable, np.uint64, Mask], float]
    """largest(q, slot, mask): the largest behaviour value of the legal actions"""
    table_of: Callable[[np.uint64], np.uint64]
    """table_of(draw): the table that the next update goes to, uniform over the tables"""
    randint: Callable[[np.uint64, int], int]
    """randint(draw, n): a number in 0 ... n - 1, from the lower half of the draw"""
    sample_legal: Callable[[Mask, np.uint64], int]
    """sample_legal(mask, draw): a legal action, uniformly"""
    sample_best: Callable[[Query, Any], int]
    """sample_best(query, explore): one of the best legal actions, uniformly; with `explore`, one of
    all legal actions"""
    visit_count: Callable[[NDArray[np.uint32], np.uint64, int], int]
    """visit_count(visits, slot, action): updates of an action so far, in all tables"""


@functools.cache
def make_row_kernels(
    actions: int,
    tables: int = 1,
    combine: str = "mean",
    masked: bool = False,
    options: tuple[tuple[str, Any], ...] = (),
) -> RowKernels:
    """Return the kernels for rows of this shape.

    Parameters
    ----------
    combine
        what the policy acts on where there are several tables: their "mean" or "min".
    masked
        whether queries carry the legal actions.
    """
    is_legal = _make_is_legal(actions, masked)
    behaviour_value = _make_behaviour_value(actions, tables, combine)
    sample_legal, sample_best = _make_samplers(actions, masked, tables == 1, behaviour_value)
    return RowKernels(
        actions,
        tables,
        options,
        is_legal,
        behaviour_value,
        _make_largest(actions, masked, is_legal, behaviour_value),
        _make_table_of(tables),
        randint,
        sample_legal,
        sample_best,
        _make_visit_count(actions, tables),
    )


@inlined
def randint(draw: np.uint64, n: Any) -> Any:
    """Return a number in 0 ... n - 1 from the lower half of a draw."""
    return np.int64(((draw & _LOW) * np.uint64(n)) >> _HALF)


def _make_is_legal(actions: int, masked: bool) -> Callable[[Mask, int], bool]:
    @inlined
    def always(mask: Any, action: int) -> bool:
        return True

    @inlined
    def has(mask: Any, action: int) -> bool:
        return has_bit(mask.words[word_of(action)] | mask.fill, np.uint64(action) & _PLACE)

    if not masked:
        return always
    return has_bit if actions <= WIDTH else has


@inlined
def _member(bitset: np.uint64, draw: np.uint64) -> Any:
    """Return a member of a bitset, uniformly."""
    # 0 for an empty set: a row of NaN must not lead out of an array.
    return np.int64(nth(bitset, randint(draw, size_of(bitset))) & _PLACE)


def make_mask_of(words: int) -> Callable[[Any], Mask]:
    """Return the kernel that reads the legal actions of a query; words: of a mask, or 0.

    An empty mask, as the end of an episode may have, says nothing: all are legal.
    """

    @inlined
    def none(query: Any) -> np.uint64:
        return _NONE

    @inlined
    def mask_of(query: Any) -> np.uint64:
        return query.mask if query.mask != _NONE else MAX_HASH

    @inlined
    def words_of_mask(query: Any) -> Words:
        found = _NONE
        for word in range(words):
            found |= query.mask[word]
        return Words(query.mask, MAX_HASH if found == _NONE else _NONE)

    return words_of_mask if words > 1 else mask_of if words else none


def _make_table_of(tables: int) -> Callable[[np.uint64], np.uint64]:
    @inlined
    def table_of(draw: np.uint64) -> np.uint64:
        # The low 16 bits hardly affect the action.
        return (draw & _TABLE_BITS) % np.uint64(tables)

    return table_of


def _make_visit_count(
    actions: int, tables: int
) -> Callable[[NDArray[np.uint32], np.uint64, int], int]:
    @inlined
    def visit_count(visits: NDArray[np.uint32], slot: np.uint64, action: int) -> int:
        count: Any = np.int64(0)
        for table in range(tables):
            count += np.int64(visits[slot, table * actions + action])
        return count

    return visit_count


def _make_behaviour_value(
    actions: int, tables: int, combine: str
) -> Callable[[QTable, np.uint64, int], float]:
    @inlined
    def single(q: QTable, slot: np.uint64, action: int) -> float:
        return q[slot, action]

    @inlined
    def mean(q: QTable, slot: np.uint64, action: int) -> float:
        total = q[slot, action]
        for table in range(1, tables):
            total += q[slot, table * actions + action]
        return total / tables

    @inlined
    def least(q: QTable, slot: np.uint64, action: int) -> float:
        value = q[slot, action]
        for table in range(1, tables):
            value = min(value, q[slot, table * actions + action])
        return value

    return single if tables == 1 else {"mean": mean, "min": least}[combine]


def _make_largest(
    actions: int,
    masked: bool,
    is_legal: Callable[[Mask, int], bool],
    behaviour_value: Callable[[QTable, np.uint64, int], float],
) -> Callable[[QTable, np.uint64, Mask], float]:
    @inlined
    def largest(q: QTable, slot: np.uint64, mask: Any) -> float:
        best = behaviour_value(q, slot, 0)
        for a in range(1, actions):
            value = behaviour_value(q, slot, a)
            best = value if value > best else best
        return best

    @inlined
    def largest_legal(q: QTable, slot: np.uint64, mask: Any) -> float:
        best, found = behaviour_value(q, slot, 0), False
        for a in range(actions):
            value = behaviour_value(q, slot, a)
            better = is_legal(mask, a) & (not found or value > best)
            best = value if better else best
            found = found or better
        return best

    @inlined
    def largest_of_many(q: QTable, slot: np.uint64, mask: Any) -> float:
        # Each waits for the last best value alone, not also for whether there was one.
        best: Any = q.dtype.type(-np.inf)
        for a in range(actions):
            value = behaviour_value(q, slot, a)
            best = value if is_legal(mask, a) & (value > best) else best
        return best

    if not masked:
        return largest
    return largest_legal if actions <= WIDTH else largest_of_many


def _make_samplers(
    actions: int,
    masked: bool,
    contiguous: bool,
    behaviour_value: Callable[[QTable, np.uint64, int], float],
) -> tuple[Any, Any]:
    """Return `sample_legal` and `sample_best`; `contiguous`: rows hold the values themselves."""
    if actions > WIDTH:
        return _make_samplers_of_many(actions, masked, contiguous, behaviour_value)
    # Computed in Python: `1 << 64` overflows in numba.
    everything = np.uint64((1 << actions) - 1)

    @inlined
    def compared(q: QTable, slot: np.uint64, least: float) -> np.uint64:
        return at_least(q, slot, 0, least, actions)

    @inlined
    def computed(q: QTable, slot: np.uint64, least: float) -> np.uint64:
        found = np.uint64(0)
        for a in range(actions):
            found |= np.uint64(behaviour_value(q, slot, a) >= least) << np.uint64(a)
        return found

    worth = compared if contiguous else computed

    @inlined
    def sample_any(mask: np.uint64, draw: np.uint64) -> int:
        return randint(draw, actions)

    @inlined
    def sample_legal(mask: np.uint64, draw: np.uint64) -> int:
        return _member(mask & everything, draw)

    # Both without branches: whether a row has ties, and which, cannot be predicted.
    @inlined
    def best_of_all(at: Query, explore: Any) -> int:
        best = worth(at.q, at.slot, at.best)
        return _member(everything if explore else best, at.draw)

    @inlined
    def best_of_legal(at: Query, explore: Any) -> int:
        best = worth(at.q, at.slot, at.best)
        return _member(at.mask & (everything if explore else best), at.draw)

    return (sample_legal, best_of_legal) if masked else (sample_any, best_of_all)


def _make_samplers_of_many(
    actions: int,
    masked: bool,
    contiguous: bool,
    behaviour_value: Callable[[QTable, np.uint64, int], float],
) -> tuple[Any, Any]:
    """Return the samplers for more actions than a word holds: the same choice, word by word."""
    words = words_of(actions)
    before = words - 1
    rest = actions - before * WIDTH
    every, every_rest = np.uint64(MASK), np.uint64((1 << rest) - 1)

    @inlined
    def compared(q: QTable, slot: np.uint64, least: float, word: int) -> np.uint64:
        if word < before:
            return at_least(q, slot, word * WIDTH, least, WIDTH)
        return at_least(q, slot, word * WIDTH, least, rest)

    @inlined
    def computed(q: QTable, slot: np.uint64, least: float, word: int) -> np.uint64:
        found, first = _NONE, word * WIDTH
        for a in range(first, min(first + WIDTH, actions)):
            found |= np.uint64(behaviour_value(q, slot, a) >= least) << np.uint64(a - first)
        return found

    worth = compared if contiguous else computed

    @inlined
    def all_of(mask: Any, word: int) -> np.uint64:
        return every if word < before else every_rest

    @inlined
    def legal_of(mask: Any, word: int) -> np.uint64:
        return (mask.words[word] | mask.fill) & all_of(mask, word)

    permitted = legal_of if masked else all_of

    @inlined
    def best_of(at: Query, explore: Any, word: int) -> np.uint64:
        legal = permitted(at.mask, word)
        return legal if explore else legal & worth(at.q, at.slot, at.best, word)

    @inlined
    def sample_any(mask: Any, draw: np.uint64) -> int:
        return randint(draw, actions)

    @inlined
    def sample_legal(mask: Any, draw: np.uint64) -> int:
        count = _NONE
        for word in range(words):
            count += size_of(legal_of(mask, word))
        left = randint(draw, count)
        for word in range(words):
            found = legal_of(mask, word)
            size: Any = np.int64(size_of(found))
            if left < size:
                member: Any = np.int64(nth(found, left))
                return word * WIDTH + member
            left -= size
        return 0

    @inlined
    def sample_best(at: Query, explore: Any) -> int:
        count = _NONE
        for word in range(words):
            count += size_of(best_of(at, explore, word))
        left = randint(at.draw, count)
        for word in range(words):
            found = best_of(at, explore, word)
            size: Any = np.int64(size_of(found))
            if left < size:
                member: Any = np.int64(nth(found, left))
                return word * WIDTH + member
            left -= size
        # A row of NaN has no best action.
        return 0

    return sample_legal if masked else sample_any, sample_best
