"""Bitsets by vector and bit instructions, against plain Python."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.jit import simd
from hpcq.jit.compiler import kernel


@kernel
def _size(bitset):
    return simd.size_of(bitset)


@kernel
def _nth(bitset, n):
    return simd.nth(bitset, n)


def make_at_least(count):
    @kernel
    def at_least(rows, row, start, least):
        return simd.at_least(rows, row, start, least, count)

    return at_least


def numbers_in(bitset):
    return [bit for bit in range(64) if bitset >> bit & 1]


@given(st.integers(0, 2**64 - 1))
def test_members_of_a_bitset(bitset):
    members = numbers_in(bitset)
    assert _size(np.uint64(bitset)) == len(members)
    assert [_nth(np.uint64(bitset), n) for n in range(len(members))] == members
    # What processors without the instruction do.
    steps = simd._nth_by_steps
    assert [steps(np.uint64(bitset), n) for n in range(len(members))] == members


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7, 8, 18, 33, 63, 64])
def test_numbers_that_are_large_enough(count, dtype):
    compiled = make_at_least(count)
    rng = np.random.default_rng(count)
    # Rows follow each other without a gap: what stands behind one is not part of it.
    rows = rng.integers(-3, 4, size=(50, count)).astype(dtype)
    rows[0], rows[1], rows[2, 0] = -np.inf, np.nan, np.inf
    for row in range(len(rows)):
        for least in (rows[row].max(), dtype(0), dtype(-np.inf)):
            found = compiled(rows, np.uint64(row), 0, least)
            assert numbers_in(int(found)) == np.flatnonzero(rows[row] >= least).tolist()
    # From a column on.
    for start in (1, count):
        several = rows.reshape(10, 5 * count)[:, : start + count]
        for row in range(10):
            found = compiled(several, np.uint64(row), start, dtype(0))
            assert numbers_in(int(found)) == np.flatnonzero(several[row, start:] >= 0).tolist()


def test_other_processors_than_this_one_can_be_compiled_for(tmp_path):
    """numba can be told to: for a cache that all nodes of a cluster share, say."""
    code = (
        "import numpy as np; from numba import njit; from hpcq.jit import simd;"
        "nth = njit(lambda bitset, n: simd.nth(bitset, n)); print(nth(np.uint64(0b10110), 2))"
    )
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "HPCQ_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"4"]
