"""Moving records within a node's shared memory: the kernels of nodes.py."""

import numpy as np
from numpy.typing import DTypeLike

from hpcq.exchange.mail import (
    COLUMNS,
    FLAGS,
    QUERIES,
    RECEIPTS,
    REPLIES_AT,
    START,
    UPDATES,
)
from hpcq.native.kernels import kernel
from hpcq.native.memory import fence, stream_line

# Of uint64 to a cache line.
_LINE = np.uint64(8)


@kernel
def _stream(source, target, start, end):
    """Copy uint64 from `start` to `end`, past the caches; the target begins with a cache line.

    Lines that another core has read are slow to take back, tenfold between distant cores: 30 ns
    each instead of 3.
    """
    first = min(end, (start + _LINE - np.uint64(1)) // _LINE * _LINE)
    last = max(first, end // _LINE * _LINE)
    for i in range(start, first):
        target[i] = source[i]
    for at in range(first, last, _LINE):
        stream_line(source, target, at)
    for i in range(last, end):
        target[i] = source[i]


@kernel
def show(packed, shown, words, sent, hidden, flags, shown_sent):
    """Copy what is packed to where the node reads it, and how it is grouped, with flags for all.

    packed, shown      uint64: records of so many `words`
    sent, shown_sent   int64 (ranks, COLUMNS): the second is shared, so it is written at the end:
                       two ranks counting in one cache line would take it from each other
    hidden             the rank whose group is not copied, or -1
    """
    last = sent[sent.shape[0] - 1]
    end = last[START] + last[UPDATES] + last[QUERIES]
    first, after = end, end
    if hidden >= 0:
        first = sent[hidden, START]
        after = first + sent[hidden, UPDATES] + sent[hidden, QUERIES]
    _stream(packed, shown, np.uint64(0), np.uint64(first * words))
    _stream(packed, shown, np.uint64(after * words), np.uint64(end * words))
    for rank in range(sent.shape[0]):
        sent[rank, FLAGS] = flags
        for column in range(COLUMNS):
            shown_sent[rank, column] = sent[rank, column]
    fence()


@kernel
def look_up(all_sent, rank, near, segment, reply_segment, counts, starts, reply_starts):
    """Note where the messages of the node's ranks to `rank` stand; return their flags, or-ed.

    all_sent               int64 (local ranks, ranks, COLUMNS)
    near                   int64 (local ranks,): the ranks of the node
    counts                 int64 (ranks, COLUMNS), out
    starts, reply_starts   int64 (ranks,), out
    """
    flags = 0
    for local in range(near.size):
        source, sent = near[local], all_sent[local, rank]
        for column in range(COLUMNS):
            counts[source, column] = sent[column]
        starts[source] = local * segment + sent[START]
        reply_starts[source] = local * reply_segment + sent[REPLIES_AT]
        flags |= sent[FLAGS]
    return flags


@kernel
def gather(window, segment, sent, to, out, at):
    """Copy what all ranks of the node have for rank `to` to `out`, from `at` on; return the end.

    sent   int64 (local ranks, ranks, COLUMNS)
    """
    for local in range(sent.shape[0]):
        start = local * segment + sent[local, to, START]
        for i in range(start, start + sent[local, to, UPDATES] + sent[local, to, QUERIES]):
            out[at] = window[i]
            at += 1
    return at


@kernel
def scatter(replies, at, sent, of, window, segment):
    """Copy the replies of rank `of`, from `at` on, to the ranks that asked; return the end."""
    for local in range(sent.shape[0]):
        start = local * segment + sent[local, of, REPLIES_AT]
        for i in range(start, start + sent[local, of, RECEIPTS] + sent[local, of, QUERIES]):
            window[i] = replies[at]
            at += 1
    return at


def warm(message: DTypeLike, reply: DTypeLike) -> None:
    """Compile, or load from the cache, the kernels for records of these types."""
    words = np.zeros(0, np.uint64)
    show(words, words, 0, np.zeros((1, COLUMNS), np.int64), -1, 0, np.zeros((1, COLUMNS), np.int64))
    sent = np.zeros((0, 1, COLUMNS), np.int64)
    messages, replies = np.empty(0, message), np.empty(0, reply)
    none = np.zeros(0, np.int64)
    look_up(sent, 0, none, 0, 0, np.zeros((0, COLUMNS), np.int64), none, none)
    gather(messages, 0, sent, 0, messages, 0)
    scatter(replies, 0, sent, 0, replies, 0)
