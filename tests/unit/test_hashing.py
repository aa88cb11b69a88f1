import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq import hashing, rng
from hpcq.jit.compiler import kernel

WORDS = st.integers(0, 2**64 - 1)
MASK = 2**64 - 1


def array(*values):
    return np.array(values, np.uint64)


def test_mix64_gives_the_published_splitmix64_sequence():
    # Rosetta Code, "Pseudo-random numbers/Splitmix64", seed 1234567.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + k * 0x9E3779B97F4A7C15) & MASK for k in range(1, 6)]
    assert [int(hashing.mix64(np.uint64(s))) for s in states] == published


@given(WORDS)
def test_unmix64_is_the_inverse(word):
    assert hashing.unmix64(np.uint64(hashing.mix64(np.uint64(word)))) == word
    assert hashing.mix64.py_func(hashing.unmix64.py_func(array(word)))[0] == word


@kernel
def upper_half(a, b):
    return hashing.hi64(a, b)


@given(WORDS, WORDS)
def test_hi64_is_the_upper_half(a, b):
    assert upper_half(np.uint64(a), np.uint64(b)) == (a * b) >> 64


@given(WORDS, st.integers(1, 2**32 - 1), st.integers(2, 1 << 30))
def test_kernels_agree_with_integers(hash_, ranks, capacity):
    owner = (hash_ * ranks) >> 64
    slot = (((hash_ * ranks) & MASK) * capacity) >> 64
    assert hashing.owner(np.uint64(hash_), np.uint64(ranks)) == owner
    assert hashing.home_bucket(np.uint64(hash_), np.uint64(ranks), np.uint64(capacity)) == slot


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 64, 1000, 16_384])
def test_ranks_own_contiguous_ranges_that_cover_everything(ranks):
    assert hashing.first_hash(0, ranks) == 0
    assert hashing.first_hash(ranks, ranks) == 2**64
    for rank in {0, 1, ranks // 2, ranks - 1} - {ranks}:
        first, after = hashing.first_hash(rank, ranks), hashing.first_hash(rank + 1, ranks)
        owners = [hashing.owner(np.uint64(h), np.uint64(ranks)) for h in (first, after - 1)]
        assert owners == [rank, rank]
        assert after - first in (2**64 // ranks, 2**64 // ranks + 1)


@given(WORDS)
def test_unit_interval_is_below_one(word):
    value = rng.unit_interval(np.uint64(word))
    assert 0.0 <= value < 1.0
    assert value == (word >> 11) / 2**53


def test_words_of_environments_do_not_depend_on_how_they_are_split():
    seed = rng.seed_word(7)
    whole = rng.environment_streams(seed, 0, 100)
    parts = [rng.environment_streams(seed, start, 25) for start in (0, 25, 50, 75)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.unique(whole).size == 100


def test_draws_are_uniform_and_uncorrelated():
    seed = rng.seed_word(1)
    words = rng.environment_streams(seed, 0, 1000)
    draws = {}
    for purpose in rng.Purpose:
        rows = [rng.tick_word(seed, tick, purpose) ^ words for tick in range(200)]
        draws[purpose] = rng.unit_interval.py_func(hashing.mix64.py_func(np.array(rows)))
    sigma = 1 / np.sqrt(12)
    for unit in draws.values():
        assert abs(unit.mean() - 0.5) < 5 * sigma / np.sqrt(unit.size)
        # Neighbouring environments, and neighbouring ticks.
        for other in (np.roll(unit, 1, axis=0), np.roll(unit, 1, axis=1)):
            assert abs(np.corrcoef(unit.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(unit.size)
    a, b = draws[rng.Purpose.STEP], draws[rng.Purpose.BEHAVE]
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)
