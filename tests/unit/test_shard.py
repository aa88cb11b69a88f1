from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcq.hashing import MASK, first_hash
from hpcq.jit.memory import release
from hpcq.table import shard as shard_module
from hpcq.table.hash_table import LIMIT, ROWS, find, insert
from hpcq.table.shard import Shard


def rows_of(shard, piece=13):
    found = {}
    last = -1
    for hashes, q, visits in shard.pieces(piece):
        assert hashes.size <= piece
        for i, hash_ in enumerate(hashes.tolist()):
            assert hash_ > last, "rows must come in hash order"
            last = hash_
            found[hash_] = (q[i].tolist(), visits[i].tolist())
    return found


def put(shard, hash_, values, visits):
    shard.load(
        np.array([hash_], np.uint64),
        np.array([values], shard.dtype),
        np.array([visits], np.uint32),
    )


@st.composite
def operations(draw):
    ranks = draw(st.integers(1, 5))
    rank = draw(st.integers(0, ranks - 1))
    low, high = first_hash(rank, ranks), first_hash(rank + 1, ranks) - 1
    near_ends = st.sampled_from([low, low + 1, low + 2, high, high - 1, high - 2])
    anywhere = st.integers(low, high)
    # Hashes close together share a home slot: long runs of probes.
    crowded = st.integers(0, 40).map(lambda d: low + (high - low) // 2 + d)
    hashes = draw(st.lists(near_ends | anywhere | crowded, max_size=150))
    return ranks, hashes


@settings(max_examples=300, deadline=None)
@given(operations(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_a_shard_is_a_sorted_dict(case, keeps_visits, dtype):
    ranks, hashes = case
    shard = Shard(ranks, 3, dtype, q_init=0.5, visits=keeps_visits)
    model = {}
    for n, hash_ in enumerate(hashes):
        values = [float(n), -1.0, 0.25]
        visits = [n, 2, 3] if keeps_visits else []
        put(shard, hash_, values, visits)
        model[hash_] = (values, visits)
        assert len(shard) == len(model)
    assert rows_of(shard) == dict(sorted(model.items()))
    for hash_ in model:
        assert shard.row(hash_).tolist() == model[hash_][0]
        assert shard.row(hash_ ^ 1).tolist() == model.get(hash_ ^ 1, [[0.5] * 3])[0]


def test_the_smallest_and_the_largest_hash_are_ordinary():
    shard = Shard(1, 2, np.float64, q_init=7.0)
    for hash_ in (0, MASK):
        assert find(shard.table, np.uint64(hash_)) == -1
        assert shard.row(hash_).tolist() == [7.0, 7.0]
    put(shard, MASK, [1.0, 2.0], [])
    put(shard, 0, [3.0, 4.0], [])
    put(shard, MASK - 1, [5.0, 6.0], [])
    shard.grow()
    assert rows_of(shard) == {0: ([3, 4], []), MASK - 1: ([5, 6], []), MASK: ([1, 2], [])}


def test_a_new_row_reads_as_q_init_without_visits():
    shard = Shard(1, 4, np.float32, q_init=-2.5, visits=True)
    slot = insert(shard.table, np.uint64(12345))
    assert shard.table.q[slot, :4].tolist() == [-2.5] * 4
    assert shard.table.visits[slot].tolist() == [0] * 4
    assert insert(shard.table, np.uint64(12345)) == slot
    assert len(shard) == 1


def test_a_full_shard_says_so_and_stays_whole():
    shard = Shard(1, 1, np.float64)
    rng = np.random.default_rng(0)
    inserted = []
    while True:
        hash_ = int(rng.integers(0, 2**64, dtype=np.uint64))
        if insert(shard.table, np.uint64(hash_)) < 0:
            break
        inserted.append(hash_)
    assert shard.table.state[ROWS] == len(inserted) == len(rows_of(shard))
    assert list(rows_of(shard)) == sorted(inserted)
    shard.grow()
    assert list(rows_of(shard)) == sorted(inserted)
    assert insert(shard.table, np.uint64(hash_)) >= 0


def test_room_for_what_is_expected_is_made_at_once():
    shard = Shard(1, 2, np.float32)
    shard.reserve(10_000)
    before = shard.nbytes
    hashes = np.sort(np.random.default_rng(1).integers(0, 2**64, 10_000, dtype=np.uint64))
    shard.load(hashes, np.zeros((10_000, 2), np.float32), np.zeros((10_000, 0), np.uint32))
    assert shard.nbytes == before


@pytest.mark.parametrize("rows", [34, 35, 1000, 10_000])
def test_room_is_that_of_a_table_that_grew(rows):
    grown, reserved = Shard(1, 2, np.float32), Shard(1, 2, np.float32)
    hashes = np.sort(np.random.default_rng(2).integers(0, 2**64, rows, dtype=np.uint64))
    for shard in (grown, reserved):
        if shard is reserved:
            shard.reserve(rows)
        shard.load(hashes, np.zeros((rows, 2), np.float32), np.zeros((rows, 0), np.uint32))
    assert grown.nbytes == reserved.nbytes


@pytest.mark.parametrize("actions", [1, 2, 4, 6, 7, 15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_records_are_aligned_and_hold_useful_bytes(actions, dtype):
    table = Shard(1, actions, dtype).table
    useful = 8 + actions * np.dtype(dtype).itemsize
    assert table.hashes.ctypes.data % 64 == 0
    assert table.hashes.strides[0] % 8 == 0
    assert useful >= 0.6 * table.hashes.strides[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("actions", [1, 2, 3, 4, 5, 6, 9, 10, 17, 100])
@pytest.mark.parametrize("visits", [False, True])
def test_just_before_it_grows_a_shard_is_useful_for_two_fifths(actions, dtype, visits):
    shard = Shard(1, actions, dtype, visits=visits)
    rows = 20_000
    shard.reserve(rows)
    held, full = shard.nbytes, int(shard.table.state[LIMIT])
    assert full >= rows
    useful = 8 + actions * np.dtype(dtype).itemsize + 4 * actions * visits
    assert full * useful >= 0.4 * held


def test_growth_holds_little_more_than_the_new_table(monkeypatch):
    """What has been moved is given back: resident memory never holds both tables in full."""
    monkeypatch.setattr(shard_module, "_GROWTH_PIECE", 1 << 16)
    shard = Shard(1, 4, np.float32)
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**64, 1_500_000, dtype=np.uint64))
    shard.reserve(hashes.size)
    shard.load(hashes, np.ones((hashes.size, 4), np.float32), np.zeros((hashes.size, 0), np.uint32))
    old, released = shard.nbytes, []
    monkeypatch.setattr(
        shard_module, "release", lambda a: released.append((resident(), release(a)))
    )
    before = resident()
    shard.grow()
    peak = max(now for now, _ in released) - before
    assert shard.nbytes > 1.9 * old
    # Without release the peak would be the whole new table, 2 x old, beside the old one.
    assert peak < 1.35 * old
    assert len(shard) == hashes.size
    assert shard.row(int(hashes[77])).tolist() == [1.0] * 4


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
