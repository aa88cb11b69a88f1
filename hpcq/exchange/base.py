"""What every routing shares: the arrays that kernels fill and read."""

from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

# Constants of kernels.

# Columns of `Exchange.sent` and `Inbox.counts`: how many updates and queries go to a rank, how many
# receipts for updates are expected (all of them or none), where the messages start in the outbox,
# where the replies are expected, what the source wants all to know, its largest group, and how many
# of the queries, the last ones, are about the last states of truncated episodes.
UPDATES, QUERIES, ACKS, START, REPLIES_AT, FLAGS, LARGEST, FINAL_QUERIES = range(8)
COLUMNS = 8
# What replies are made of: receipts, then the answers to queries.
REPLIES = slice(QUERIES, ACKS + 1)


class Inbox(NamedTuple):
    """Where the messages of each source stand: in `remote` where `is_remote`, else in `local`."""

    local: NDArray
    remote: NDArray
    is_remote: NDArray[np.bool_]
    starts: NDArray[np.int64]
    """(ranks,)"""
    counts: NDArray[np.int64]
    """(ranks, COLUMNS), from each source"""


class Replies(NamedTuple):
    """Where the replies to each source go: to `remote` where the inbox says so, else to `local`."""

    local: NDArray
    remote: NDArray
    starts: NDArray[np.int64]


def ensure_capacity(array: NDArray, needed: int) -> NDArray:
    """Return `array`, or a larger one where it is too small; contents are lost then."""
    if needed <= array.size:
        return array
    return np.empty(max(needed, 2 * array.size), array.dtype)


class Exchange:
    """One rank's side of a tick's messages; the subclasses differ in how they travel.

    Attributes
    ----------
    outbox : messages to send, grouped by owner
    sent : int64 (ranks, COLUMNS), how they are grouped
    inbox : the messages of all sources, after `send`
    replies : where to write the replies to them
    replies_in : the replies to this rank's messages, grouped by owner, after `reply`
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        message: DTypeLike,
        reply: DTypeLike,
        most_messages: int,
        most_replies: int,
    ) -> None:
        self.comm = comm
        self.message, self.reply_type = np.dtype(message), np.dtype(reply)
        self.sent = np.zeros((comm.size, COLUMNS), np.int64)
        self.outbox = np.empty(most_messages, message)
        self.replies_in = np.empty(most_replies, reply)
        self._is_remote = np.ones(comm.size, np.bool_)
        self._starts = np.zeros(comm.size, np.int64)
        self._reply_starts = np.zeros(comm.size, np.int64)
        self._received = np.zeros((comm.size, COLUMNS), np.int64)
        self.set_buffers(np.empty(0, message), np.empty(0, message))
        self.set_reply_buffers(np.empty(0, reply), np.empty(0, reply))

    def set_buffers(self, local: NDArray, remote: NDArray) -> None:
        """Let messages be read from these arrays."""
        self.inbox = Inbox(local, remote, self._is_remote, self._starts, self._received)

    def set_reply_buffers(self, local: NDArray, remote: NDArray) -> None:
        """Let replies be written to these arrays."""
        self.replies = Replies(local, remote, self._reply_starts)

    def send(self, flags: int) -> int:
        """Send `outbox` as `sent` says; return the flags of all ranks, or-ed. Collective."""
        raise NotImplementedError

    def reply(self) -> None:
        """Send the replies back to where the messages came from. Collective."""
        raise NotImplementedError

    def network_messages(self) -> int:
        """Return how many MPI messages this rank sends in a tick."""
        raise NotImplementedError

    def received(self) -> int:
        """Return how many updates and queries came in with the last `send`."""
        return int(self.inbox.counts[:, [UPDATES, QUERIES]].sum())

    def bytes_sent_elsewhere(self) -> int:
        """Return the bytes of the last tick that this rank sent to other ranks."""
        other = np.arange(self.comm.size) != self.comm.rank
        messages = self.sent[other, UPDATES] + self.sent[other, QUERIES]
        given = self.inbox.counts[other, REPLIES]
        return int(messages.sum() * self.message.itemsize + given.sum() * self.reply_type.itemsize)

    def free(self) -> None:
        """Release what MPI holds. Collective."""


class SerialExchange(Exchange):
    """One rank: no copy, no call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._is_remote[:] = False
        self._received = self.sent
        self.set_buffers(self.outbox, self.outbox)
        self.set_reply_buffers(self.replies_in, self.replies_in)

    def send(self, flags: int) -> int:
        """Return the flags."""
        return flags

    def reply(self) -> None:
        """Do nothing: the replies are where they should be."""

    def network_messages(self) -> int:
        """Return 0."""
        return 0
