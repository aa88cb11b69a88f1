"""Counter-based random numbers: a draw is a function of (seed, environment, tick, purpose) alone.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, describe the
kind; the mixing is that of `hashing.mix64`.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK, mix64
from hpcq.jit.compiler import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xD1B54A32D192ED03)


class Purpose(IntEnum):
    """What a draw decides. No two purposes share a draw."""

    BEHAVE = 0
    STEP = 1
    RESET = 2
    REPLAY = 3
    EVALUATE = 8


@kernel
def second_draw(draw: np.uint64) -> np.uint64:
    """Return a draw that is independent of the one it is made from."""
    return mix64(draw ^ _SECOND)


@kernel
def unit_interval(draw: np.uint64) -> np.float64:
    """Return a draw as a float64 in [0, 1), 53 bits of it random."""
    return np.float64(draw >> np.uint64(11)) * (1.0 / 9007199254740992.0)


def seed_word(seed: int) -> np.uint64:
    """Return the word from which all draws of a seed come."""
    return mix64.py_func(np.array([seed & MASK], np.uint64))[0]


def environment_streams(seed: np.uint64, start: int, count: int) -> NDArray[np.uint64]:
    """Return the words of the environments `start` ... `start + count - 1`; see `streams_of`."""
    return streams_of(seed, np.arange(start, start + count))


def streams_of(seed: np.uint64, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the words of the environments of these numbers.

    The draw of environment i at one tick for one purpose is
    ``mix64(tick_word ^ environment_word[i])``; `seed` is a `seed_word`.
    """
    base = mix64.py_func(np.array([seed], np.uint64) + _GOLDEN)
    return mix64.py_func(base + numbers.astype(np.uint64) * _GOLDEN)


@kernel
def word_at(seed: np.uint64, tick: int, purpose: int) -> np.uint64:
    """Return what `tick_word` does, in a kernel."""
    return mix64(mix64(mix64(seed) + np.uint64(tick)) + np.uint64(purpose) * _GOLDEN)


def tick_word(seed: np.uint64, tick: int, purpose: Purpose) -> np.uint64:
    """Return the word of one tick and purpose, the same for all environments."""
    # Kernels return Python integers; one beyond 2**63 would not go back in.
    return np.uint64(word_at(seed, tick, int(purpose)))
