"""Shared memory within a node, few and large messages between nodes.

The ranks of a node publish their messages in one window of shared memory, and the owners among them
read them in place: no message, and they wait for each other at counters in that memory.

Messages to other nodes are aggregated: for each rank of another node, one rank of this node (its
forwarder) sends the messages of all ranks of this node. So a rank sends about as many messages as
there are nodes, not as there are ranks, and each is larger by the number of ranks of a node; tiny
messages to everyone are what makes Alltoallv collapse at scale (Maley, DeVinney, "Conveyors for
streaming many-to-many communication", IA3 2019). Replies go the same way back.

The messages of each source stay together, so the owner takes sources in rank order.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange import shm_kernels
from hpcq.exchange.base import (
    COLUMNS,
    FLAGS,
    QUERIES,
    REPLIES,
    UPDATES,
    Exchange,
    Node,
    ensure_capacity,
)
from hpcq.exchange.epochs import look_limits, words_shape
from hpcq.exchange.shared_memory import Shapes, shared_arrays
from hpcq.jit.compiler import PrecompiledCall
from hpcq.mpi import wait_all

# The largest message between nodes, in bytes.
PIECE_BYTES = 256 << 20

_COUNTS, _MESSAGES, _REPLIES = 21, 22, 23


class NodeAwareExchange(Exchange):
    """Exchange through shared memory and, between nodes, forwarders; see `base.Exchange`."""

    shared = True

    @classmethod
    def make(
        cls,
        comm: MPI.Intracomm,
        node: MPI.Intracomm,
        message: DTypeLike,
        reply: DTypeLike,
        max_messages: int,
        max_replies: int,
    ) -> "NodeAwareExchange | None":
        """Return an exchange, or None if a node cannot share memory. Collective."""
        largest = np.array([max_messages, max_replies], np.int64)
        node.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
        # A multiple of 8 records of whole words: the part of every rank starts at a cache line.
        largest = -(-largest // 8) * 8
        shapes: Shapes = [
            (words_shape(node.size), np.dtype(np.int32)),
            ((node.size, comm.size, COLUMNS), np.dtype(np.int64)),
            ((node.size * int(largest[0]),), np.dtype(message)),
            ((node.size * int(largest[1]),), np.dtype(reply)),
        ]
        arrays = shared_arrays(comm, node, shapes)
        if arrays is None:
            return None
        return cls(comm, node, arrays, message, reply, max_messages, max_replies)

    def __init__(
        self,
        comm: MPI.Intracomm,
        node: MPI.Intracomm,
        arrays: list[NDArray],
        *arguments: Any,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        super().__init__(comm, *arguments)
        self._node_comm = node
        self._piece_bytes = piece_bytes
        self._publish = PrecompiledCall(shm_kernels.publish)
        self._synchronise = PrecompiledCall(shm_kernels.synchronise)
        self._locate = PrecompiledCall(shm_kernels.locate)
        self._publish_replies = PrecompiledCall(shm_kernels.publish_replies)
        epochs, all_sent, messages, replies = arrays
        segment, reply_segment = messages.size // node.size, replies.size // node.size
        # Messages are packed, and replies written, in private memory and copied at once: to write
        # record by record would wait for each line that another rank has read.
        self._replies_window = replies
        self.replies_in = replies[node.rank * reply_segment :][:reply_segment]
        self.set_buffers(messages, np.empty(0, self.message))
        members = self._find_peers()
        self_rank = -1
        if self.direct:
            # No other node: `remote` is free to be this rank's own outbox, read in place.
            self_rank = comm.rank
            self._is_remote[comm.rank] = True
            self.set_buffers(messages, self.outbox)
            self.set_reply_buffers(self.replies.local, self.replies_in)
        self.written = self.replies.local.view(np.uint64)
        self.node = Node(
            epochs,
            all_sent,
            messages[node.rank * segment :][:segment].view(np.uint64),
            replies.view(np.uint64),
            members,
            node.rank,
            comm.rank,
            self_rank,
            self.message.itemsize // 8,
            self.reply_type.itemsize // 8,
            segment,
            reply_segment,
            look_limits(),
            np.zeros(1, np.int64),
        )
        self._gathered = np.empty(0, self.message)
        self._to_scatter = np.empty(0, self.reply_type)

    def _find_peers(self) -> NDArray[np.int64]:
        """Find the forwarders from and to this rank; return the ranks of its node. Collective."""
        comm, node = self.comm, self._node_comm
        # A node is named by its first rank.
        names = comm.allgather(node.bcast(comm.rank))
        members: dict[int, list[int]] = {}
        for rank, name in enumerate(names):
            members.setdefault(name, []).append(rank)
        local = np.array(members.pop(names[comm.rank]), np.int64)
        self._is_remote[local] = False
        self.direct = not members
        # A rank's forwarder has its index within the node, modulo the number of ranks there.
        self._forwards_to = [
            rank for ranks in members.values() for rank in ranks[node.rank :: node.size]
        ]
        self._nodes = [
            (ranks[node.rank % len(ranks)], np.array(ranks)) for ranks in members.values()
        ]
        self._headers_out = np.zeros((len(self._forwards_to), node.size, COLUMNS), np.int64)
        self._headers_in = [np.zeros((len(r), COLUMNS), np.int64) for _, r in self._nodes]
        return local

    def send(self, flags: int) -> int:
        """Publish messages to this node, forward those to others; see `base.Exchange.send`."""
        self._publish(self.node, self.packed, self.sent, flags)
        self._synchronise(self.node)
        agreed, replies = self._locate(
            self.node, self.inbox.counts, self._starts, self._reply_starts
        )
        if replies > self.replies.local.size:
            self.reserve_replies(replies)
        if self.direct:
            return agreed
        self._forward()
        return int(np.bitwise_or.reduce(self.inbox.counts[:, FLAGS]))

    def _forward(self) -> None:
        """Send this node's messages to other nodes, and receive theirs to this rank."""
        requests = []
        for (forwarder, _), header in zip(self._nodes, self._headers_in, strict=True):
            requests.append(self.comm.Irecv(header, forwarder, _COUNTS))
        for header, to in zip(self._headers_out, self._forwards_to, strict=True):
            header[:] = self.node.all_sent[:, to]
            requests.append(self.comm.Isend(header, to, _COUNTS))
        wait_all(requests)
        counts = self.inbox.counts
        messages = replies = 0
        for (_, ranks), header in zip(self._nodes, self._headers_in, strict=True):
            counts[ranks] = header
            for rank in ranks.tolist():
                self._starts[rank], self._reply_starts[rank] = messages, replies
                messages += int(counts[rank, UPDATES] + counts[rank, QUERIES])
                replies += int(counts[rank, REPLIES].sum())
        self.reserve_remote(messages, replies)
        at, requests = 0, []
        for (forwarder, _), header in zip(self._nodes, self._headers_in, strict=True):
            end = at + int(header[:, UPDATES].sum() + header[:, QUERIES].sum())
            requests += self._pieces(
                self.comm.Irecv, self.inbox.remote[at:end], forwarder, _MESSAGES
            )
            at = end
        out = self._headers_out
        total = int(out[:, :, UPDATES].sum() + out[:, :, QUERIES].sum())
        self._gathered = ensure_capacity(self._gathered, total)
        at = 0
        for to in self._forwards_to:
            end = shm_kernels.gather(
                self.inbox.local, self.node.segment, self.node.all_sent, to, self._gathered, at
            )
            requests += self._pieces(self.comm.Isend, self._gathered[at:end], to, _MESSAGES)
            at = end
        wait_all(requests)

    def reply(self) -> None:
        """Publish replies to this node, exchange those with other nodes."""
        self._publish_replies(self.node, self.written)
        if not self.direct:
            self._forward_replies()
        self._synchronise(self.node)

    def _forward_replies(self) -> None:
        asked = self._headers_out[:, :, REPLIES].sum(axis=(1, 2))
        self._to_scatter = ensure_capacity(self._to_scatter, int(asked.sum()))
        ends = np.cumsum(asked).tolist()
        requests = []
        for owner, start, end in zip(self._forwards_to, [0, *ends], ends, strict=False):
            requests += self._pieces(self.comm.Irecv, self._to_scatter[start:end], owner, _REPLIES)
        at = 0
        for (forwarder, _), header in zip(self._nodes, self._headers_in, strict=True):
            end = at + int(header[:, REPLIES].sum())
            requests += self._pieces(
                self.comm.Isend, self.replies.remote[at:end], forwarder, _REPLIES
            )
            at = end
        wait_all(requests)
        at = 0
        for owner in self._forwards_to:
            at = shm_kernels.scatter(
                self._to_scatter,
                at,
                self.node.all_sent,
                owner,
                self._replies_window,
                self.node.reply_segment,
            )

    def _pieces(self, call: Any, records: NDArray, peer: int, tag: int) -> list[MPI.Request]:
        """Start sending or receiving records, in pieces of bounded size; none for no records."""
        raw = records.view(np.uint8)
        return [
            call([raw[at : at + self._piece_bytes], MPI.BYTE], peer, tag)
            for at in range(0, raw.size, self._piece_bytes)
        ]

    def network_messages(self) -> int:
        """Return the messages of counts, updates and queries, and replies, to other nodes."""
        return 2 * len(self._forwards_to) + len(self._nodes)
