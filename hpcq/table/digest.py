"""The digest of a table: the same for the same rows, whatever ranks hold them.

Each row's key, Q-value bits and visit counts are mixed into two independent 64-bit numbers,
which are summed over rows modulo 2**64; the third number is the row count.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK, mix64
from hpcq.jit.compiler import inlined, kernel

Words = NDArray[np.uint64]

_FIRST, _SECOND = np.uint64(0x9FB21C651E98DF25), np.uint64(0xC2B2AE3D27D4EB4F)


class Digest(NamedTuple):
    """The number of rows and the two sums; ``str`` gives the form that users compare."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __str__(self) -> str:
        return f"{self.rows:x}-{self.first:016x}{self.second:016x}"

    def plus(self, other: "Digest") -> "Digest":
        """Return the digest of both sets of rows together."""
        return Digest(
            self.rows + other.rows,
            (self.first + other.first) & MASK,
            (self.second + other.second) & MASK,
        )


# Rows mixed at once: the mixings of one row are a chain of dependent multiplications.
_BLOCK = 16


@kernel
def _sums(hashes: Words, bits: Any, visits: Any, firsts: Words, seconds: Words, out: Words) -> None:
    rest = hashes.size % _BLOCK
    # A constant length, which the compiler vectorises.
    for start in range(0, hashes.size - rest, _BLOCK):
        _add(hashes, bits, visits, start, _BLOCK, firsts, seconds, out)
    _add(hashes, bits, visits, hashes.size - rest, rest, firsts, seconds, out)


@inlined
def _add(
    hashes: Words,
    bits: Any,
    visits: Any,
    start: int,
    rows: int,
    firsts: Words,
    seconds: Words,
    out: Words,
) -> None:
    for i in range(rows):
        firsts[i] = mix64(hashes[start + i] ^ _FIRST)
        seconds[i] = mix64(hashes[start + i] ^ _SECOND)
    _mix_in(bits, start, rows, firsts, seconds)
    _mix_in(visits, start, rows, firsts, seconds)
    for i in range(rows):
        out[0] += firsts[i]
        out[1] += seconds[i]


@inlined
def _mix_in(words: Any, start: int, rows: int, firsts: Words, seconds: Words) -> None:
    for j in range(words.shape[1]):
        for i in range(rows):
            word = np.uint64(words[start + i, j])
            firsts[i] = mix64(firsts[i] + _SECOND ^ word)
            seconds[i] = mix64(seconds[i] + _FIRST ^ word)


def digest_rows(hashes: NDArray, q: NDArray, visits: NDArray) -> Digest:
    """Return the digest of rows: hashes uint64 (n,), q (n, ...), visits uint32 (n, ...).

    `q` and `visits` must be contiguous.
    """
    n = hashes.size
    if n == 0:
        return Digest()
    out = np.zeros(2, np.uint64)
    bits = q.reshape(n, -1).view(np.uint64 if q.dtype.itemsize == 8 else np.uint32)
    counts = visits.reshape(n, -1) if visits.size else visits.reshape(n, 0)
    _sums(hashes, bits, counts, np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64), out)
    return Digest(n, int(out[0]), int(out[1]))


def digest_pieces(pieces: Iterable[tuple[NDArray, NDArray, NDArray]]) -> Digest:
    """Return the digest of the rows of all pieces, each as `digest_rows` takes them."""
    total = Digest()
    for hashes, q, visits in pieces:
        total = total.plus(digest_rows(hashes, q, visits))
    return total
