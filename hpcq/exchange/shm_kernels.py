"""Copy records within a node's shared memory: the kernels of node_aware.py."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange.base import (
    ACKS,
    COLUMNS,
    FLAGS,
    QUERIES,
    REPLIES_AT,
    START,
    UPDATES,
    Node,
    node_of_one,
)
from hpcq.exchange.meeting import begin_meeting, end_meeting
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import fence, stream_line

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]

# uint64 in a cache line.
_LINE = np.uint64(8)
# What is shorter, in uint64, is not streamed: 16 KiB that the reader finds in a cache.
_SHORT = np.uint64(2048)


@kernel
def stream(source: Words, at: np.uint64, target: Words, start: np.uint64, end: np.uint64) -> None:
    """Copy uint64 from ``source[at]`` on to ``target[start:end]``; many with non-temporal stores.

    `target` is aligned to a cache line. To write a line that another core has read costs ten times
    as much between distant cores: 30 ns instead of 3. But who reads a line that was streamed
    waits for memory, which few lines do not hide.
    """
    first = min(end, (start + _LINE - np.uint64(1)) // _LINE * _LINE)
    last = max(first, end // _LINE * _LINE)
    if end - start < _SHORT:
        first = last = start
    back = at - start
    for i in range(start, first):
        target[i] = source[back + i]
    for i in range(first, last, _LINE):
        stream_line(source, back + i, target, i)
    for i in range(last, end):
        target[i] = source[back + i]


@kernel
def publish(node: Node, packed: Words, sent: Counts, flags: int) -> None:
    """Copy packed messages, how they are grouped, and the flags of this rank to shared memory.

    packed   uint64: the messages of this rank
    sent     int64 (ranks, COLUMNS); the shared one is written at the end only: avoids false sharing
    """
    last, words = sent[sent.shape[0] - 1], node.message_words
    end = last[START] + last[UPDATES] + last[QUERIES]
    first, after = end, end
    if node.self_rank >= 0:
        first = sent[node.self_rank, START]
        after = first + sent[node.self_rank, UPDATES] + sent[node.self_rank, QUERIES]
    stream(packed, np.uint64(0), node.published, np.uint64(0), np.uint64(first * words))
    start = np.uint64(after * words)
    stream(packed, start, node.published, start, np.uint64(end * words))
    for rank in range(sent.shape[0]):
        sent[rank, FLAGS] = flags
        for column in range(COLUMNS):
            node.all_sent[node.member, rank, column] = sent[rank, column]
    fence()


@kernel
def locate(node: Node, counts: Counts, starts: Counts, reply_starts: Counts) -> tuple[int, int]:
    """Find the messages of the node's ranks to this one, and the places of the replies to them.

    counts         int64 (ranks, COLUMNS), out
    starts         int64 (ranks,), out
    reply_starts   int64 (ranks,), out: the replies to the ranks of the node are contiguous

    Returns the flags of all, or-ed, and the number of these replies.
    """
    flags, replies = 0, 0
    for member in range(node.members.size):
        source, sent = node.members[member], node.all_sent[member, node.rank]
        for column in range(COLUMNS):
            counts[source, column] = sent[column]
        flags |= sent[FLAGS]
        if source == node.self_rank:
            starts[source], reply_starts[source] = sent[START], sent[REPLIES_AT]
            continue
        starts[source], reply_starts[source] = member * node.segment + sent[START], replies
        replies += sent[ACKS] + sent[QUERIES]
    return flags, replies


@kernel
def publish_replies(node: Node, written: Words) -> None:
    """Copy the contiguous replies (see `locate`) to shared memory, where each rank expects them.

    written   uint64
    """
    at, words = 0, node.reply_words
    for member in range(node.members.size):
        if node.members[member] != node.self_rank:
            sent = node.all_sent[member, node.rank]
            start = member * node.reply_segment + sent[REPLIES_AT]
            end = start + sent[ACKS] + sent[QUERIES]
            stream(
                written,
                np.uint64(at * words),
                node.published_replies,
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
    node, none = node_of_one(), np.zeros(1, np.int64)
    counts = np.zeros((1, COLUMNS), np.int64)
    publish(node, node.published, counts, 0)
    begin_meeting(node)
    end_meeting(node)
    locate(node, counts, none, none)
    publish_replies(node, node.published_replies)
    messages, replies = np.empty(0, message), np.empty(0, reply)
    sent = node.all_sent[:0]
    gather(messages, 0, sent, 0, messages, 0)
    scatter(replies, 0, sent, 0, replies, 0)
