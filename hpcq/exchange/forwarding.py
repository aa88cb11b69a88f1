"""Messages between nodes: one for each pair of a node and a rank of another one.

For each rank of another node, one rank of this node (its forwarder) sends the messages of all ranks
of this node; replies go the same way back. So a rank sends about as many messages as there are
nodes, not as there are ranks, and each is larger by the number of ranks of a node; tiny messages to
everyone are what makes Alltoallv collapse at scale (Maley, DeVinney, "Conveyors for streaming
many-to-many communication", IA3 2019).

Nothing is asked for: a first message brings the counts and, as a rule, all records; its size has a
limit that both sides know. What is beyond follows at once. So a tick waits for the network twice,
once there and once back. All messages are small enough for MPI to send them at once; of larger ones
it would first send a word and wait for the answer.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange import shm_kernels
from hpcq.exchange.base import COLUMNS, QUERIES, REPLIES, UPDATES, ensure_capacity
from hpcq.jit.compiler import PrecompiledCall
from hpcq.mpi import wait_all

# The largest message, in bytes: Open MPI sends up to 64 KiB over TCP without asking.
PIECE_BYTES = 60_000
# Records that a first message has room for at the least.
_LEAST_FIRST = 64

_FIRST, _REST, _REPLIES = 21, 22, 23

Counts = NDArray[np.int64]


class Pieces:
    """Sends and receives records in pieces of bounded size; none for no records."""

    def __init__(self, comm: MPI.Intracomm, piece_bytes: int) -> None:
        self._comm, self._size = comm, piece_bytes

    def send(self, records: NDArray, to: int, tag: int) -> list[MPI.Request]:
        """Begin to send."""
        return [self._comm.Isend(piece, to, tag) for piece in self._cut(records)]

    def receive(self, records: NDArray, source: int, tag: int) -> list[MPI.Request]:
        """Begin to receive."""
        return [self._comm.Irecv(piece, source, tag) for piece in self._cut(records)]

    def _cut(self, records: NDArray) -> list[Any]:
        raw = records.view(np.uint8)
        return [[raw[at : at + self._size], MPI.BYTE] for at in range(0, raw.size, self._size)]


class _Source:
    """Another node, of which one rank forwards to this one."""

    def __init__(self, forwarder: int, ranks: list[int], first: int, record: np.dtype) -> None:
        self.forwarder, self.ranks = forwarder, np.array(ranks)
        head = head_records(len(ranks), record)
        self.buffer = np.empty(head + first, record)
        self.header = header_of(self.buffer, len(ranks))
        self.records = self.buffer[head:]
        self.messages = self.replies = 0
        """that it sent in this tick, and that it gets back"""


def head_records(ranks: int, record: np.dtype) -> int:
    """Return how many records have the size of the counts of so many ranks."""
    return -(-ranks * COLUMNS * 8 // record.itemsize)


def header_of(records: NDArray, ranks: int) -> Counts:
    """Return the counts (ranks, COLUMNS) at the beginning of a first message."""
    raw = records.view(np.uint8)[: ranks * COLUMNS * 8]
    return raw.view(np.int64).reshape(ranks, COLUMNS)


class Forwarding:
    """What a rank sends to other nodes and gets from them. Making it is collective.

    Parameters
    ----------
    comm, node
        all ranks, and those of this node.
    nodes
        the ranks of every other node.
    message, reply
        record types.
    most
        messages that each rank of a node sends at the most.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        node: MPI.Intracomm,
        nodes: list[list[int]],
        message: DTypeLike,
        reply: DTypeLike,
        most: int,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._record, self._node_size = np.dtype(message), node.size
        self._pieces = Pieces(comm, piece_bytes)
        self._comm = comm
        # Twice what goes to one rank if all owners are alike; the same on both sides.
        share = 2 * comm.allreduce(most, MPI.MAX) // comm.size + _LEAST_FIRST
        self._share, self._piece_records = share, piece_bytes // self._record.itemsize
        # A rank's forwarder has its index within the node, modulo the number of ranks there.
        self._to = [rank for ranks in nodes for rank in ranks[node.rank :: node.size]]
        self._sources = [
            _Source(ranks[node.rank % len(ranks)], ranks, self._first(len(ranks)), self._record)
            for ranks in nodes
        ]
        self._sent = np.zeros((len(self._to), node.size, COLUMNS), np.int64)
        self._outgoing = np.empty(0, self._record)
        self._scattered = np.empty(0, np.dtype(reply))
        self._gather = PrecompiledCall(shm_kernels.gather)
        self._scatter = PrecompiledCall(shm_kernels.scatter)
        self._firsts: list[MPI.Request] = []
        self._sends: list[MPI.Request] = []
        self._replies: list[MPI.Request] = []

    def _first(self, ranks: int) -> int:
        """Return the most records in the first message of a node of so many ranks."""
        room = self._piece_records - head_records(ranks, self._record)
        return max(1, min(ranks * self._share, room))

    def start_send(self, all_sent: Counts, window: NDArray, segment: int) -> None:
        """Begin to send the messages of this node's ranks to others, which lie in `window`."""
        self._firsts = [
            self._comm.Irecv([source.buffer.view(np.uint8), MPI.BYTE], source.forwarder, _FIRST)
            for source in self._sources
        ]
        size, head = self._node_size, head_records(self._node_size, self._record)
        first = head + self._first(size)
        for sent, to in zip(self._sent, self._to, strict=True):
            sent[:] = all_sent[:, to]
        total = int(self._sent[:, :, [UPDATES, QUERIES]].sum()) + head * len(self._to)
        self._outgoing = ensure_capacity(self._outgoing, total)
        at, self._sends = 0, []
        for sent, to in zip(self._sent, self._to, strict=True):
            header_of(self._outgoing[at : at + head], size)[:] = sent
            end = self._gather(window, segment, all_sent, to, self._outgoing, at + head)
            message, rest = self._outgoing[at : min(at + first, end)], at + first
            self._sends.append(self._comm.Isend([message.view(np.uint8), MPI.BYTE], to, _FIRST))
            self._sends += self._pieces.send(self._outgoing[rest:end], to, _REST)
            at = end

    def finish_counts(self, counts: Counts, starts: Counts, reply_starts: Counts) -> None:
        """Wait for the counts; write those of each source, and where its messages will be."""
        wait_all(self._firsts)
        messages = replies = 0
        for source in self._sources:
            header = source.header
            counts[source.ranks] = header
            sizes, answers = (
                header[:, [UPDATES, QUERIES]].sum(axis=1),
                header[:, REPLIES].sum(axis=1),
            )
            starts[source.ranks] = messages + np.cumsum(sizes) - sizes
            reply_starts[source.ranks] = replies + np.cumsum(answers) - answers
            source.messages, source.replies = int(sizes.sum()), int(answers.sum())
            messages, replies = messages + source.messages, replies + source.replies

    @property
    def incoming(self) -> tuple[int, int]:
        """Messages that come in this tick, and the replies to them."""
        sources = self._sources
        return sum(s.messages for s in sources), sum(s.replies for s in sources)

    def finish_send(self, remote: NDArray) -> None:
        """Receive the messages of all sources into `remote`, once their counts are known."""
        at, requests = 0, self._sends
        for source in self._sources:
            first = min(source.messages, source.records.size)
            remote[at : at + first] = source.records[:first]
            rest = remote[at + first : at + source.messages]
            requests += self._pieces.receive(rest, source.forwarder, _REST)
            at += source.messages
        wait_all(requests)

    def start_reply(self, replies: NDArray) -> None:
        """Begin to send the replies to the messages in the order of these."""
        asked = self._sent[:, :, REPLIES].sum(axis=(1, 2)).tolist()
        self._scattered = ensure_capacity(self._scattered, sum(asked))
        at, self._replies = 0, []
        for count, owner in zip(asked, self._to, strict=True):
            part = self._scattered[at : at + count]
            self._replies += self._pieces.receive(part, owner, _REPLIES)
            at += count
        at = 0
        for source in self._sources:
            part = replies[at : at + source.replies]
            self._replies += self._pieces.send(part, source.forwarder, _REPLIES)
            at += source.replies

    def finish_reply(self, all_sent: Counts, window: NDArray, segment: int) -> None:
        """Wait for the replies, and put them where the ranks of this node expect them."""
        wait_all(self._replies)
        at = 0
        for owner in self._to:
            at = self._scatter(self._scattered, at, all_sent, owner, window, segment)

    def messages(self) -> int:
        """Return the messages of a tick: to ranks of other nodes, and of replies to nodes."""
        return len(self._to) + len(self._sources)
