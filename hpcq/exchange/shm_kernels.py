"""Moving records within a node's shared memory: the kernels of nodes.py."""

import numpy as np
from numpy.typing import DTypeLike

from hpcq.exchange.base import ACKS, COLUMNS, FLAGS, QUERIES, REPLIES_AT, START, UPDATES
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import fence, stream_line

# Of uint64 to a cache line.
_LINE = np.uint64(8)


@kernel
def _stream(source, at, target, start, end):
    """Copy uint64 from ``source[at]`` on to ``target[start:end]``, past the caches.

    The target begins with a cache line. Lines that another core has read are slow to take back,
    tenfold between distant cores: 30 ns each instead of 3.
    """
    first = min(end, (start + _LINE - np.uint64(1)) // _LINE * _LINE)
    last = max(first, end // _LINE * _LINE)
    back = at - start
    for i in range(start, first):
        target[i] = source[back + i]
    for i in range(first, last, _LINE):
        stream_line(source, back + i, target, i)
    for i in range(last, end):
        target[i] = source[back + i]


@kernel
def publish(packed, published, words, sent, self_rank, flags, published_sent):
    """Copy what is packed to where the node reads it, and how it is grouped, with flags for all.

    packed, shown      uint64: records of so many `words`
    sent, shown_sent   int64 (ranks, COLUMNS): the second is shared, so it is written at the end:
                       two ranks counting in one cache line would take it from each other
    hidden             the rank whose group is not copied, or -1
    """
    last = sent[sent.shape[0] - 1]
    end = last[START] + last[UPDATES] + last[QUERIES]
    first, after = end, end
    if self_rank >= 0:
        first = sent[self_rank, START]
        after = first + sent[self_rank, UPDATES] + sent[self_rank, QUERIES]
    _stream(packed, np.uint64(0), published, np.uint64(0), np.uint64(first * words))
    start = np.uint64(after * words)
    _stream(packed, start, published, start, np.uint64(end * words))
    for rank in range(sent.shape[0]):
        sent[rank, FLAGS] = flags
        for column in range(COLUMNS):
            published_sent[rank, column] = sent[rank, column]
    fence()


@kernel
def look_up(all_sent, rank, local, self_rank, segment, counts, starts, reply_starts):
    """Note where the messages of the node's ranks to `rank` stand, and where replies will.

    all_sent       int64 (local ranks, ranks, COLUMNS)
    near           int64 (local ranks,): the ranks of the node
    hidden         the rank whose messages are where it packed them, and its replies where it looks
                   for them; or -1
    counts         int64 (ranks, COLUMNS), out
    starts         int64 (ranks,), out
    reply_starts   int64 (ranks,), out: the replies to the ranks of the node follow each other

    Returns the flags of all, or-ed, and the number of these replies.
    """
    flags, replies = 0, 0
    for member in range(local.size):
        source, sent = local[member], all_sent[member, rank]
        for column in range(COLUMNS):
            counts[source, column] = sent[column]
        flags |= sent[FLAGS]
        if source == self_rank:
            starts[source], reply_starts[source] = sent[START], sent[REPLIES_AT]
            continue
        starts[source], reply_starts[source] = member * segment + sent[START], replies
        replies += sent[ACKS] + sent[QUERIES]
    return flags, replies


@kernel
def publish_replies(written, published, words, all_sent, rank, local, self_rank, reply_segment):
    """Copy the replies that follow each other, see `look_up`, to where the ranks will read them.

    written, shown   uint64: records of so many `words`
    """
    at = 0
    for member in range(local.size):
        if local[member] != self_rank:
            sent = all_sent[member, rank]
            start = member * reply_segment + sent[REPLIES_AT]
            end = start + sent[ACKS] + sent[QUERIES]
            _stream(
                written,
                np.uint64(at * words),
                published,
                np.uint64(start * words),
                np.uint64(end * words),
            )
            at += end - start
    fence()


@kernel
def gather(window, segment, sent, to, out, at):
    """Copy what all ranks of the node have for rank `to` to `out`, from `at` on; return the end.

    sent   int64 (local ranks, ranks, COLUMNS)
    """
    for member in range(sent.shape[0]):
        start = member * segment + sent[member, to, START]
        for i in range(start, start + sent[member, to, UPDATES] + sent[member, to, QUERIES]):
            out[at] = window[i]
            at += 1
    return at


@kernel
def scatter(replies, at, sent, of, window, segment):
    """Copy the replies of rank `of`, from `at` on, to the ranks that asked; return the end."""
    for member in range(sent.shape[0]):
        start = member * segment + sent[member, of, REPLIES_AT]
        for i in range(start, start + sent[member, of, ACKS] + sent[member, of, QUERIES]):
            window[i] = replies[at]
            at += 1
    return at


def warm_up(message: DTypeLike, reply: DTypeLike) -> None:
    """Compile, or load from the cache, the kernels for records of these types."""
    words = np.zeros(0, np.uint64)
    publish(
        words, words, 0, np.zeros((1, COLUMNS), np.int64), -1, 0, np.zeros((1, COLUMNS), np.int64)
    )
    sent = np.zeros((0, 1, COLUMNS), np.int64)
    messages, replies = np.empty(0, message), np.empty(0, reply)
    none = np.zeros(0, np.int64)
    look_up(sent, 0, none, -1, 0, np.zeros((0, COLUMNS), np.int64), none, none)
    publish_replies(words, words, 1, sent, 0, none, -1, 0)
    gather(messages, 0, sent, 0, messages, 0)
    scatter(replies, 0, sent, 0, replies, 0)
