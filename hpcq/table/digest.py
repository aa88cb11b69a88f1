"""The digest of a table: equal exactly if all rows are, whatever ranks hold them.

Each row's key, Q-value bits and visit counts are mixed into two independent 64-bit numbers,
which are summed over rows modulo 2**64; the row count stands beside them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.hashing import MASK, mix64
from hpcq.native.kernels import kernel

_FIRST, _SECOND = np.uint64(0x9FB21C651E98DF25), np.uint64(0xC2B2AE3D27D4EB4F)


class Digest(NamedTuple):
    """Rows and the two sums. ``str`` gives the form that people compare."""

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


@kernel
def _sums(hashes, bits, visits, out):
    for i in range(hashes.size):
        a = mix64(hashes[i] ^ _FIRST)
        b = mix64(hashes[i] ^ _SECOND)
        for j in range(bits.shape[1]):
            word = np.uint64(bits[i, j])
            a = mix64(a + _SECOND ^ word)
            b = mix64(b + _FIRST ^ word)
        for j in range(visits.shape[1]):
            word = np.uint64(visits[i, j])
            a = mix64(a + _SECOND ^ word)
            b = mix64(b + _FIRST ^ word)
        out[0] += a
        out[1] += b


def digest_rows(hashes: NDArray, q: NDArray, visits: NDArray) -> Digest:
    """Return the digest of rows: hashes uint64 (n,), q (n, ...), visits uint32 (n, ...).

    `q` and `visits` must be contiguous.
    """
    n = hashes.size
    if n == 0:
        return Digest()
    out = np.zeros(2, np.uint64)
    bits = q.reshape(n, -1).view(np.uint64 if q.dtype.itemsize == 8 else np.uint32)
    _sums(hashes, bits, visits.reshape(n, -1) if visits.size else visits.reshape(n, 0), out)
    return Digest(n, int(out[0]), int(out[1]))
