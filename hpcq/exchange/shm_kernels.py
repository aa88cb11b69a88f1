"""Copy records within a node's shared memory: the kernels of node_aware.py."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange.base import ACKS, COLUMNS, FLAGS, QUERIES, REPLIES_AT, START, UPDATES
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import fence, stream_line

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]

# uint64 in a cache line.
_LINE = np.uint64(8)


@kernel
def _stream(source: Words, at: np.uint64, target: Words, start: np.uint64, end: np.uint64) -> None:
    """Copy uint64 from ``source[at]`` on to ``target[start:end]`` with non-temporal stores.

    `target` is aligned to a cache line. To write a line that another core has read costs ten times
    as much between distant cores: 30 ns instead of 3.
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
def publish(
    packed: Words,
    published: Words,
    words: int,
    sent: Counts,
    self_rank: int,
    flags: int,
    published_sent: Counts,
) -> None:
    """Copy packed messages, how they are grouped, and the flags of this rank to shared memory.

    packed, published      uint64: records of `words` uint64 each
    sent, published_sent   int64 (ranks, COLUMNS): the second one is shared, and written at the end
                           only: avoids false sharing
    self_rank              the rank whose group is not copied, or -1
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
def locate(
    all_sent: Counts,
    rank: int,
    local: Counts,
    self_rank: int,
    segment: int,
    counts: Counts,
    starts: Counts,
    reply_starts: Counts,
) -> tuple[int, int]:
    """Find the messages of the node's ranks to `rank`, and the places of the replies to them.

    all_sent       int64 (local ranks, ranks, COLUMNS)
    local          int64 (local ranks,): the ranks of the node
    self_rank      the rank whose messages and replies stay in its own buffers, or -1
    segment        messages that each rank has space for in shared memory
    counts         int64 (ranks, COLUMNS), out
    starts         int64 (ranks,), out
    reply_starts   int64 (ranks,), out: the replies to the ranks of the node are contiguous

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
def publish_replies(
    written: Words,
    published: Words,
    words: int,
    all_sent: Counts,
    rank: int,
    local: Counts,
    self_rank: int,
    reply_segment: int,
) -> None:
    """Copy the contiguous replies (see `locate`) to shared memory, where each rank expects them.

    written, published   uint64: records of `words` uint64 each
    reply_segment        replies that each rank has space for in shared memory
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
def gather(window: Any, segment: int, sent: Counts, to: int, out: Any, at: int) -> int:
    """Copy the messages of all ranks of the node to rank `to` into ``out[at:]``; return the end.

    sent   int64 (local ranks, ranks, COLUMNS)
    """
    for member in range(sent.shape[0]):
        start = member * segment + sent[member, to, START]
        for i in range(start, start + sent[member, to, UPDATES] + sent[member, to, QUERIES]):
            out[at] = window[i]
            at += 1
    return at


@kernel
def scatter(replies: Any, at: int, sent: Counts, owner: int, window: Any, segment: int) -> int:
    """Copy the replies of rank `owner`, ``replies[at:]``, to the ranks that asked; return the end.

    sent   int64 (local ranks, ranks, COLUMNS)
    """
    for member in range(sent.shape[0]):
        start = member * segment + sent[member, owner, REPLIES_AT]
        for i in range(start, start + sent[member, owner, ACKS] + sent[member, owner, QUERIES]):
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
    locate(sent, 0, none, -1, 0, np.zeros((0, COLUMNS), np.int64), none, none)
    publish_replies(words, words, 1, sent, 0, none, -1, 0)
    gather(messages, 0, sent, 0, messages, 0)
    scatter(replies, 0, sent, 0, replies, 0)
