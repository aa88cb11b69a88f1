"""Where a state lives: 64-bit mixing.

A key is mixed into a hash; the hash alone says which rank owns the state and in which bucket
of the shard it stands. Both maps are monotone, so ranks own contiguous ranges of hashes and the
shards, read in rank order, are one sequence in hash order for any number of ranks.

`mix64` and `unmix64` are one text for two readers: called, each is a numba kernel for scalars; its
``py_func`` does the same to NumPy arrays of uint64. Every operand stays uint64: numba computes
``uint64 % int`` with a sign.
"""

from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from hpcq.jit.compiler import intrinsic, kernel

MASK = (1 << 64) - 1
MAX_HASH = np.uint64(MASK)

_A, _B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MULTIPLY_A, _MULTIPLY_B = np.uint64(_A), np.uint64(_B)
_INVERSE_A, _INVERSE_B = np.uint64(pow(_A, -1, 1 << 64)), np.uint64(pow(_B, -1, 1 << 64))
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_S54, _S60, _S62 = np.uint64(54), np.uint64(60), np.uint64(62)
_LOW = np.uint64(0xFFFFFFFF)

Words = TypeVar("Words", np.uint64, NDArray[np.uint64])

# Of fewer, NumPy is done before a kernel has been loaded.
FEW = 1000


@kernel
def mix64(key: Words) -> Words:
    """Return the hash of a key: the finaliser of SplitMix64, a bijection of 64 bits.

    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
    (the constants are David Stafford's variant 13).
    """
    x = (key ^ (key >> _S30)) * _MULTIPLY_A
    x = (x ^ (x >> _S27)) * _MULTIPLY_B
    return x ^ (x >> _S31)


@kernel
def unmix64(hash_: Words) -> Words:
    """Return the key whose hash this is: the inverse of `mix64`."""
    x = (hash_ ^ (hash_ >> _S31) ^ (hash_ >> _S62)) * _INVERSE_B
    x = (x ^ (x >> _S27) ^ (x >> _S54)) * _INVERSE_A
    return x ^ (x >> _S30) ^ (x >> _S60)


@kernel
def _mix_all(keys: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> None:
    for i in range(keys.size):
        hashes[i] = mix64(keys[i])


@kernel
def _unmix_all(hashes: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
    for i in range(hashes.size):
        keys[i] = unmix64(hashes[i])


def hashes_of(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hash of each key."""
    if keys.size < FEW:
        return mix64.py_func(keys)
    hashes = np.empty(keys.size, np.uint64)
    _mix_all(keys, hashes)
    return hashes


def keys_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the key of each hash."""
    if hashes.size < FEW:
        return unmix64.py_func(hashes)
    keys = np.empty(hashes.size, np.uint64)
    _unmix_all(hashes, keys)
    return keys


@intrinsic
def hi64(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the upper half of the 128-bit product of two uint64: one instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(value, wide) for value in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    if a != types.uint64 or b != types.uint64:
        return None
    return types.uint64(a, b), generate


@kernel
def owner(hash_: np.uint64, ranks: np.uint64) -> np.uint64:
    """Return the rank, of `ranks` (uint64, below 2**32), that owns a hash.

    The upper half of their product, from halves: vector instructions multiply no 64 bits by 64.
    """
    low = ((hash_ & _LOW) * ranks) >> _S32
    return ((hash_ >> _S32) * ranks + low) >> _S32


@kernel
def home_bucket(hash_: np.uint64, ranks: np.uint64, buckets: np.uint64) -> np.uint64:
    """Return the bucket of a hash in its owner's shard of `buckets` (uint64) buckets."""
    return hi64(hash_ * ranks, buckets)


def first_hash(rank: int, ranks: int) -> int:
    """Return the smallest hash that `rank` of `ranks` owns; ``2**64`` for ``rank == ranks``."""
    return -(-(rank << 64) // ranks)
