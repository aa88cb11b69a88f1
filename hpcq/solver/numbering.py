"""Numbers for states, in the order in which they are met.

The hash table holds numbers alone, 8 bytes a slot: the hashes are in an array by number. Beside its
number a slot holds half of the hash, which tells nearly all others apart before that array is read.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import home_bucket
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import allocate, prefetch

Hashes = NDArray[np.uint64]

# Numbers have 32 bits. Those of states of other ranks have the highest one; the last is no state.
HALO, END = 1 << 31, (1 << 32) - 1

# Slots in use before the table grows, and how much larger it is then.
_LOAD, _GROWTH = 0.7, 1.5
_FEWEST = 64

_EMPTY, _ONE, _HALF, _LOW = np.uint64(0), np.uint64(1), np.uint64(32), np.uint64((1 << 32) - 1)
_AHEAD = 32


@inlined
def home_of(slots: Hashes, hash_: np.uint64, ranks: np.uint64) -> Any:
    """Return the first slot in which a hash may be.

    Of the hashes of any one of the ranks, those are spread over all slots.
    """
    return home_bucket(hash_, ranks, np.uint64(slots.size))


@inlined
def probe(slots: Hashes, slot: np.uint64, hash_: np.uint64) -> Any:
    """Return the first slot, of `slot` and those after it, that is empty or of a hash alike."""
    half = hash_ << _HALF
    while slots[slot] != _EMPTY and (slots[slot] ^ half) >> _HALF != _EMPTY:
        slot = after(slots, slot)
    return slot


@inlined
def after(slots: Hashes, slot: np.uint64) -> Any:
    """Return the next slot; after the last comes the first."""
    slot += _ONE
    return slot if slot < np.uint64(slots.size) else _EMPTY


@inlined
def number_in(slots: Hashes, slot: np.uint64) -> Any:
    """Return the number in a slot; -1 where it is empty."""
    return np.int64(slots[slot] & _LOW) - 1


@inlined
def put(slots: Hashes, slot: np.uint64, hash_: np.uint64, number: Any) -> None:
    """Write a number to an empty slot."""
    slots[slot] = (hash_ << _HALF) | np.uint64(number + 1)


@inlined
def number_of(
    slots: Hashes, hashes: Hashes, slot: np.uint64, hash_: np.uint64, following: Any, most: int
) -> Any:
    """Return the number of a hash, `following` if it is new; -1 if there is no room for it.

    hashes     the hashes by number
    slot       where to begin: its home, or what `probe` has found from there
    most       numbers for which there is room
    """
    slot = probe(slots, slot, hash_)
    number = number_in(slots, slot)
    while number >= 0 and hashes[number] != hash_:
        slot = probe(slots, after(slots, slot), hash_)
        number = number_in(slots, slot)
    if number >= 0:
        return number
    if following >= most:
        return np.int64(-1)
    put(slots, slot, hash_, following)
    return np.int64(following)


@kernel
def _fill(slots: Hashes, hashes: Hashes, ranks: np.uint64) -> None:
    """Give different hashes numbers, in an empty table."""
    for i in range(slots.size):
        slots[i] = _EMPTY
    for i in range(hashes.size):
        if i + _AHEAD < hashes.size:
            prefetch(slots, home_of(slots, hashes[i + _AHEAD], ranks))
        slot = home_of(slots, hashes[i], ranks)
        while slots[slot] != _EMPTY:
            slot = after(slots, slot)
        put(slots, slot, hashes[i], i)


class Numbering:
    """A hash table of numbers.

    Parameters
    ----------
    ranks
        among which the hashes are divided.

    Attributes
    ----------
    slots : ndarray
        uint64, as kernels see them; another array after `grow`
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = np.uint64(ranks)
        self.slots = self._filled(_FEWEST, np.zeros(0, np.uint64))

    def _filled(self, size: int, hashes: Hashes) -> Hashes:
        slots = allocate(8 * size).view(np.uint64)
        _fill(slots, hashes, self._ranks)
        return slots

    @property
    def most(self) -> int:
        """The numbers for which there is room."""
        return min(_most(self.slots.size), HALO)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.slots.nbytes

    def grow(self, hashes: Hashes) -> None:
        """Make room for more numbers; `hashes`: all so far, by number.

        The old table is given back first: all that it says is in the hashes.
        """
        size = _larger(self.slots.size)
        self.slots = np.zeros(0, np.uint64)
        self.slots = self._filled(size, hashes)


def nbytes_for(numbers: int) -> int:
    """Return the bytes of a table that has grown to hold so many numbers."""
    size = _FEWEST
    while _most(size) < numbers:
        size = _larger(size)
    return 8 * size


def _most(size: int) -> int:
    return int(size * _LOAD)


def _larger(size: int) -> int:
    return int(size * _GROWTH)
