"""The trees of priorities against a plain list, and what is drawn by them against probabilities."""

import bisect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.collectors import priorities
from hpcq.collectors.batch import Outcome, make_batch
from hpcq.collectors.history import make_priorities
from hpcq.rng import Purpose, environment_streams, seed_word, tick_word

VALUES = st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1))


@given(st.integers(1, 40), st.data())
def test_a_tree_is_a_list_with_sums(capacity, data):
    found, values = make_priorities(2, capacity, 1), [0] * capacity
    places = st.integers(0, capacity - 1)
    for place, value in data.draw(st.lists(st.tuples(places, VALUES), min_size=1, max_size=60)):
        priorities.assign(found, 1, place, np.uint32(value))
        values[place] = value
    assert found.value.tolist() == [[0] * capacity, values]
    total = sum(values)
    if capacity > 1:
        assert found.sums[:, 1].tolist() == [0, total]
    ends = list(itertools.accumulate(values))
    for number in (n for n in (0, total // 3, total - 1, *ends) if 0 <= n < total):
        place = priorities.find(found, 1, np.uint64(number))
        assert place == bisect.bisect_right(ends, number)
    rebuilt = found._replace(sums=np.zeros_like(found.sums))
    priorities.build(rebuilt)
    assert np.array_equal(rebuilt.sums, found.sums)


RATIO, TICKS = 64, 500
GIVEN = [[1, 2, 3, 4, 0], [70_000, 1, 0, 900, 35_000]]


def drawn(values, added, least, beta):
    """Return (places, weights, numbers), each (TICKS, rings, RATIO), of rings with such values."""
    rings, found = len(values), make_priorities(len(values), len(values[0]), RATIO)
    found.value[:] = values
    priorities.build(found)
    batch = make_batch(rings * (1 + RATIO))
    batch.outcome[:] = Outcome.RESET
    seed = seed_word(5)
    words = environment_streams(seed, 0, rings * (1 + RATIO))
    places = np.empty((TICKS, rings, RATIO), np.int64)
    weights, numbers = np.empty(places.shape), np.empty_like(places)
    for tick in range(TICKS):
        word = tick_word(seed, tick, Purpose.REPLAY)
        taken = np.full(rings, added)
        priorities.draw(found, batch, taken, words, word, least, beta, places[tick])
        weights[tick], numbers[tick] = found.weight[:, 1:], found.sampled[:, 1:]
    return places, weights, numbers


def test_transitions_are_drawn_in_proportion_to_their_priorities():
    places, weights, numbers = drawn(GIVEN, 13, 1, 0.5)
    for ring, values in enumerate(GIVEN):
        share = np.array(values) / sum(values)
        count = np.bincount(places[:, ring].ravel(), minlength=5)
        sd = np.sqrt(RATIO * TICKS * share * (1 - share))
        assert (np.abs(count - RATIO * TICKS * share) <= 4 * sd).all()
        assert np.allclose(weights[:, ring], (5 * share[places[:, ring]]) ** -0.5)
    # 13 transitions so far: numbers 10, 11, 12, 8 and 9 stand in the places 0 ... 4.
    assert np.array_equal(numbers, np.array([10, 11, 12, 8, 9])[places])


@pytest.mark.parametrize(
    ("values", "added", "least"), [([0] * 5, 5, 1), (GIVEN[0], 13, 6), (GIVEN[0], 4, 5)]
)
def test_nothing_is_drawn_without_priorities_or_before_there_is_enough(values, added, least):
    places, _, _ = drawn([values], added, least, 0.5)
    assert (places == -1).all()
