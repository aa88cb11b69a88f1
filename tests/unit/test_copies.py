"""What a rank shows to its node: the records of the others, copied line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.collectors.messages import _count_owners, _occurs
from hpcq.exchange.copies import show
from hpcq.exchange.mail import COLUMNS, FLAGS, QUERIES, START, UPDATES
from hpcq.native.memory import allocate


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=4),
    st.integers(-1, 3),
    st.integers(1, 4),
)
def test_all_groups_but_the_hidden_one_are_shown(groups, hidden, words):
    hidden = min(hidden, len(groups) - 1)
    sent = np.zeros((len(groups), COLUMNS), np.int64)
    sent[:, [UPDATES, QUERIES]] = groups
    sizes = sent[:, UPDATES] + sent[:, QUERIES]
    sent[:, START] = np.cumsum(sizes) - sizes
    total = int(sizes.sum()) * words
    packed = np.arange(1, total + 20, dtype=np.uint64)
    shown = allocate(8 * packed.size).view(np.uint64)
    shown[:] = 0
    sent_shown = np.zeros_like(sent)
    show(packed, shown, words, sent, hidden, 5, sent_shown)
    expected = np.where(np.arange(packed.size) < total, packed, 0)
    if hidden >= 0:
        start = sent[hidden, START] * words
        expected[start : start + sizes[hidden] * words] = 0
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(sent_shown, sent)
    assert (sent[:, FLAGS] == 5).all()


@pytest.mark.parametrize("ranks", [1, 2, 8, 9, 100])
def test_owners_are_counted(ranks):
    owners = np.random.default_rng(ranks).integers(ranks, size=1001).astype(np.uint32)
    counts = np.arange(ranks, dtype=np.uint64)
    _count_owners(owners, counts)
    expected = np.arange(ranks) + np.bincount(owners, minlength=ranks)
    np.testing.assert_array_equal(counts, expected)


def test_a_value_is_found_wherever_it_stands():
    values = np.zeros(100, np.uint8)
    assert not _occurs(values, 3)
    for place in range(values.size):
        values[:] = 0
        values[place] = 3
        assert _occurs(values, 3)
