"""Environments grouped by owner, against a stable sort."""

import numpy as np
import pytest

from hpcq.collectors.grouping import _by_cursors, _by_passes, group
from hpcq.jit import simd
from hpcq.jit.compiler import kernel


@kernel
def _equal(array, start, value):
    return simd.equal(array, start, np.uint32(value))


@pytest.mark.parametrize("how", [group, _by_passes, _by_cursors])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 9, 100])
@pytest.mark.parametrize("environments", [0, 1, 7, 63, 64, 65, 128, 1000])
def test_each_rank_has_its_own_in_their_order(environments, ranks, how):
    rng = np.random.default_rng(environments)
    for of in (ranks, max(1, ranks // 2), 1):
        # Among them ranks that own nothing.
        owners = rng.integers(of, size=environments).astype(np.uint32)
        order = np.full(environments + 9, 99, np.uint32)
        ends = np.full(ranks, 77, np.uint64)
        how(owners, order[:environments], ends)
        np.testing.assert_array_equal(order[:environments], np.argsort(owners, kind="stable"))
        np.testing.assert_array_equal(ends, np.cumsum(np.bincount(owners, minlength=ranks)))
        assert (order[environments:] == 99).all()


def test_64_numbers_compared_at_once():
    values = np.random.default_rng(0).integers(3, size=200).astype(np.uint32)
    for start in range(values.size - 64):
        found = int(_equal(values, start, 2))
        assert [found >> k & 1 for k in range(64)] == (values[start : start + 64] == 2).tolist()
