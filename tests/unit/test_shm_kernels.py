"""What a rank publishes to its node: the records of other ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.collectors.grouping import occurs
from hpcq.exchange.base import (
    ACKS,
    COLUMNS,
    FLAGS,
    QUERIES,
    REPLIES_AT,
    START,
    UPDATES,
    node_of_one,
)
from hpcq.exchange.records import record_types
from hpcq.exchange.shm_kernels import locate, publish, publish_replies
from hpcq.jit.memory import allocate

# Few records are stored as any, many past the caches.
counts_of = st.integers(0, 40) | st.integers(700, 1000)


@given(
    st.lists(st.tuples(counts_of, counts_of), min_size=1, max_size=4),
    st.integers(-1, 3),
    st.integers(1, 4),
)
def test_all_groups_but_its_own_are_published(groups, self_rank, words):
    self_rank = min(self_rank, len(groups) - 1)
    sent = np.zeros((len(groups), COLUMNS), np.int64)
    sent[:, [UPDATES, QUERIES]] = groups
    sizes = sent[:, UPDATES] + sent[:, QUERIES]
    sent[:, START] = np.cumsum(sizes) - sizes
    total = int(sizes.sum()) * words
    packed = np.arange(1, total + 20, dtype=np.uint64)
    published = allocate(8 * packed.size).view(np.uint64)
    published[:] = 0
    node = node_of_one(len(groups))._replace(
        published=published, self_rank=self_rank, message_words=words
    )
    publish(node, packed, sent, 5)
    expected = np.where(np.arange(packed.size) < total, packed, 0)
    if self_rank >= 0:
        start = sent[self_rank, START] * words
        expected[start : start + sizes[self_rank] * words] = 0
    np.testing.assert_array_equal(published, expected)
    np.testing.assert_array_equal(node.all_sent[0], sent)
    assert (sent[:, FLAGS] == 5).all()


@given(
    st.lists(st.tuples(*[counts_of] * 4), min_size=1, max_size=4),
    st.integers(-1, 3),
    st.integers(1, 3),
)
def test_replies_come_where_each_rank_expects_them(groups, self_rank, words):
    """Rank 1 of two answers: what each of its node gets, where, and nothing else."""
    local_ranks, segment, reply_segment = np.arange(len(groups)) * 3, 1000, 3000
    self_rank = self_rank * 3 if self_rank < len(groups) else -1
    all_sent = np.zeros((len(groups), 2, COLUMNS), np.int64)
    all_sent[:, 1, [QUERIES, ACKS, START, REPLIES_AT]] = groups
    all_sent[:, 1, FLAGS] = 1 << np.arange(len(groups))
    ranks = int(local_ranks[-1]) + 1
    counts = np.zeros((ranks, COLUMNS), np.int64)
    starts, reply_starts = np.zeros(ranks, np.int64), np.zeros(ranks, np.int64)
    published = allocate(8 * len(groups) * reply_segment * words).view(np.uint64)
    published[:] = 0
    node = node_of_one()._replace(
        all_sent=all_sent,
        published_replies=published,
        members=local_ranks,
        rank=1,
        self_rank=self_rank,
        reply_words=words,
        segment=segment,
        reply_segment=reply_segment,
    )
    flags, total = locate(node, counts, starts, reply_starts)
    assert flags == (1 << len(groups)) - 1
    written = np.arange(1, total * words + 1, dtype=np.uint64)
    publish_replies(node, written)
    expected, at = np.zeros_like(published), 0
    for local, (queries, acks, start, replies_at) in enumerate(groups):
        source = local_ranks[local]
        assert (counts[source] == all_sent[local, 1]).all()
        if source == self_rank:
            assert (starts[source], reply_starts[source]) == (start, replies_at)
            continue
        assert (starts[source], reply_starts[source]) == (local * segment + start, at)
        first, size = (local * reply_segment + replies_at) * words, (queries + acks) * words
        expected[first : first + size] = written[at * words : at * words + size]
        at += queries + acks
    assert at == total
    np.testing.assert_array_equal(published, expected)


def test_no_more_tables_than_a_reply_can_number():
    _, reply = record_types(np.dtype(np.float32), tables=256)
    assert np.iinfo(reply["table"]).max == 255
    assert reply.itemsize == 8
    with pytest.raises(ValueError, match="257 tables, expected at most 256"):
        record_types(np.dtype(np.float32), tables=257)


def test_a_value_is_found_wherever_it_stands():
    values = np.zeros(100, np.uint8)
    assert not occurs(values, 3)
    for place in range(values.size):
        values[:] = 0
        values[place] = 3
        assert occurs(values, 3)
