"""What every exchange has: the arrays that kernels fill and read."""

from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.jit.atomics import LINE

# Columns of `Exchange.sent` and `Inbox.counts`, a row per rank:
#   UPDATES, QUERIES   number of each that go to the rank
#   ACKS               td_error acknowledgements expected: one per update, or none
#   START              index of its first message in the outbox
#   REPLIES_AT         index in `replies_in` of its first reply
#   FLAGS              of the source, or-ed over all ranks by `send`
#   CHANGE, VALUES     of the source's values since its last messages, and how many it has: see
#                      collectors/centring.py
# A row is a cache line: two ranks that write theirs do not share one.
UPDATES, QUERIES, ACKS, START, REPLIES_AT, FLAGS, CHANGE, VALUES = range(8)
COLUMNS = 8
# The columns whose sum is the number of replies: answers to queries, behind acknowledgements.
REPLIES = slice(QUERIES, ACKS + 1)


class Inbox(NamedTuple):
    """The messages of each source: in `remote` where `is_remote`, else in `local`."""

    local: NDArray
    remote: NDArray
    is_remote: NDArray[np.bool_]
    starts: NDArray[np.int64]
    """(ranks,), index of the first message of each source"""
    counts: NDArray[np.int64]
    """(ranks, COLUMNS), from each source"""


class Replies(NamedTuple):
    """Where the replies to each source are written: `remote` as in the inbox, else `local`."""

    local: NDArray
    remote: NDArray
    starts: NDArray[np.int64]
    """(ranks,), index of the first reply to each source"""


class Node(NamedTuple):
    """What the ranks of a node share, and this rank's place in it."""

    epochs: NDArray[np.int32]
    """(members, LINE), see epochs.py"""
    all_sent: NDArray[np.int64]
    """(members, ranks, COLUMNS), what each sends to each"""
    published: NDArray[np.uint64]
    """the messages of this rank"""
    published_replies: NDArray[np.uint64]
    """the replies to all members, as many places for each"""
    members: NDArray[np.int64]
    """(members,), their ranks"""
    member: int
    """number of this rank among them"""
    rank: int
    self_rank: int
    """the rank whose messages and replies stay in its own buffers, or -1"""
    message_words: int
    """uint64 of a message"""
    reply_words: int
    """uint64 of a reply"""
    segment: int
    """messages that each member has space for"""
    reply_segment: int
    """replies that each member has space for"""
    look_ns: NDArray[np.int64]
    """(2,), of this rank: see `epochs.look_limits`"""
    epoch: NDArray[np.int64]
    """(1,), of this rank: the last epoch at which it met the others"""


def node_of_one(ranks: int = 1) -> Node:
    """Return the node of a single rank, which sends nothing."""
    nothing, sent = np.zeros(0, np.uint64), np.zeros((1, ranks, COLUMNS), np.int64)
    words = np.zeros((1, LINE), np.int32)
    ranks_here, looks = np.zeros(1, np.int64), np.zeros(2, np.int64)
    epoch = np.zeros(1, np.int64)
    return Node(words, sent, nothing, nothing, ranks_here, 0, 0, -1, 1, 1, 0, 0, looks, epoch)


def ensure_capacity(array: NDArray, needed: int) -> NDArray:
    """Return `array`, or a new one of at least `needed` elements; its contents are not kept."""
    if needed <= array.size:
        return array
    return np.empty(max(needed, 2 * array.size), array.dtype)


class Exchange:
    """One rank's buffers for the messages of a tick; subclasses differ in how they travel.

    Parameters
    ----------
    message, reply
        record types, from `records.record_types`.
    max_messages, max_replies
        the most that this rank sends, and gets back, in one tick.

    Attributes
    ----------
    outbox : messages to send, grouped by owner
    sent : int64 (ranks, COLUMNS), how they are grouped
    inbox : the messages of all sources, after `send`
    replies : where to write the replies to them
    replies_in : the replies to this rank's messages, grouped by owner, after `reply`
    direct : whether messages go through memory alone: one rank, or those of one node
    shared : whether that memory is the node's
    node : what the ranks of this node share
    packed, written : the outbox, and the replies to other ranks of the node, as uint64
    """

    direct = shared = False

    def __init__(
        self,
        comm: MPI.Intracomm,
        message: DTypeLike,
        reply: DTypeLike,
        max_messages: int,
        max_replies: int,
    ) -> None:
        self.comm = comm
        self.message, self.reply_type = np.dtype(message), np.dtype(reply)
        self.sent = np.zeros((comm.size, COLUMNS), np.int64)
        self.outbox = np.empty(max_messages, message)
        self.replies_in = np.empty(max_replies, reply)
        self._is_remote = np.ones(comm.size, np.bool_)
        self._starts = np.zeros(comm.size, np.int64)
        self._reply_starts = np.zeros(comm.size, np.int64)
        self._received = np.zeros((comm.size, COLUMNS), np.int64)
        self.set_buffers(np.empty(0, message), np.empty(0, message))
        self.set_reply_buffers(np.empty(0, reply), np.empty(0, reply))
        self.node = node_of_one(comm.size)
        self.packed = self.written = self.outbox.view(np.uint64)

    def set_buffers(self, local: NDArray, remote: NDArray) -> None:
        """Set the arrays in which incoming messages arrive."""
        self.inbox = Inbox(local, remote, self._is_remote, self._starts, self._received)

    def set_reply_buffers(self, local: NDArray, remote: NDArray) -> None:
        """Set the arrays in which replies are written."""
        self.replies = Replies(local, remote, self._reply_starts)

    def reserve_remote(self, messages: int, replies: int) -> None:
        """Enlarge the buffers of remote messages, and of the replies to them, where needed."""
        if messages > self.inbox.remote.size:
            self.set_buffers(self.inbox.local, ensure_capacity(self.inbox.remote, messages))
        if replies > self.replies.remote.size:
            remote = ensure_capacity(self.replies.remote, replies)
            self.set_reply_buffers(self.replies.local, remote)

    def reserve_replies(self, count: int) -> None:
        """Make room for so many replies to the ranks of this node."""
        self.set_reply_buffers(ensure_capacity(self.replies.local, count), self.replies.remote)
        self.written = self.replies.local.view(np.uint64)

    def send(self, flags: int) -> int:
        """Send `outbox` as `sent` says; return the flags of all ranks, or-ed. Collective."""
        self.start_send(flags)
        return self.finish_send()

    def reply(self) -> None:
        """Send the replies back to the sources of the messages. Collective."""
        self.start_reply()
        self.finish_reply()

    def start_send(self, flags: int) -> None:
        """Begin what `send` does; other work may follow. Collective."""
        raise NotImplementedError

    def finish_send(self) -> int:
        """End what `start_send` began; return the flags of all ranks, or-ed. Collective."""
        raise NotImplementedError

    def start_reply(self) -> None:
        """Begin what `reply` does; other work may follow. Collective."""
        raise NotImplementedError

    def finish_reply(self) -> None:
        """End what `start_reply` began. Collective."""
        raise NotImplementedError

    def network_messages(self) -> int:
        """Return how many MPI messages this rank sends in a tick."""
        raise NotImplementedError

    def received(self) -> int:
        """Return how many updates and queries came in with the last `send`."""
        return int(self.inbox.counts[:, [UPDATES, QUERIES]].sum())

    def bytes_sent_elsewhere(self) -> int:
        """Return the bytes that this rank sent to other ranks in the last tick."""
        other = np.arange(self.comm.size) != self.comm.rank
        messages = self.sent[other, UPDATES] + self.sent[other, QUERIES]
        replies = self.inbox.counts[other, REPLIES]
        return int(
            messages.sum() * self.message.itemsize + replies.sum() * self.reply_type.itemsize
        )

    def free(self) -> None:
        """Release MPI's resources. Collective."""


class RequestingExchange(Exchange):
    """Requests that each owner answers some time later.

    Attributes
    ----------
    posted : int
        requests sent so far
    """

    posted = 0

    def isend(self) -> None:
        """Send `outbox` to the owners as `sent` says."""
        raise NotImplementedError

    def test(self) -> bool:
        """Return whether all replies have arrived."""
        raise NotImplementedError


class SerialExchange(Exchange):
    """One rank: the outbox is the inbox, nothing is copied."""

    direct = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._flags = 0
        self._is_remote[:] = False
        self._received = self.sent
        self.set_buffers(self.outbox, self.outbox)
        self.set_reply_buffers(self.replies_in, self.replies_in)

    def start_send(self, flags: int) -> None:
        """Keep the flags."""
        self._flags = flags

    def finish_send(self) -> int:
        """Return the flags."""
        return self._flags

    def start_reply(self) -> None:
        """Do nothing: replies are written where they are read."""

    def finish_reply(self) -> None:
        """Do nothing."""

    def network_messages(self) -> int:
        """Return 0."""
        return 0
