"""Shared memory within a node, few and large messages between nodes.

The ranks of a node publish their messages in one window of shared memory, and the owners among them
read them in place: no message, and they wait for each other at counters in that memory.

Messages to other nodes are aggregated; see forwarding.py. The messages of each source stay
together, so the owner takes sources in rank order.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange import meeting, shm_kernels
from hpcq.exchange.base import COLUMNS, FLAGS, Exchange, Node
from hpcq.exchange.epochs import look_limits, words_shape
from hpcq.exchange.forwarding import PIECE_BYTES, Forwarding
from hpcq.exchange.shared_memory import Shapes, shared_arrays
from hpcq.jit.compiler import PrecompiledCall
from hpcq.mpi import let_sleeps_end_in_time


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
        piece_bytes: int = PIECE_BYTES,
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
        sizes = message, reply, max_messages, max_replies
        return cls(comm, node, arrays, *sizes, piece_bytes=piece_bytes)

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
        self._publish = PrecompiledCall(shm_kernels.publish)
        self._locate = PrecompiledCall(shm_kernels.locate)
        self._publish_replies = PrecompiledCall(shm_kernels.publish_replies)
        self._begin_meeting = PrecompiledCall(meeting.begin_meeting)
        self._end_meeting = PrecompiledCall(meeting.end_meeting)
        epochs, all_sent, messages, replies = arrays
        segment, reply_segment = messages.size // node.size, replies.size // node.size
        # Messages are packed, and replies written, in private memory and copied at once: to write
        # record by record would wait for each line that another rank has read.
        self._replies_window = replies
        self.replies_in = replies[node.rank * reply_segment :][:reply_segment]
        self.set_buffers(messages, np.empty(0, self.message))
        members, others = self._find_nodes()
        self._is_remote[members] = False
        self.direct = not others
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
        if not self.direct:
            let_sleeps_end_in_time()
        records, most = (self.message, self.reply_type), self.outbox.size
        self._forwarding = Forwarding(comm, node, others, *records, most, piece_bytes)

    def _find_nodes(self) -> tuple[NDArray[np.int64], list[list[int]]]:
        """Return the ranks of this node, and those of every other one. Collective."""
        # A node is named by its first rank.
        names = self.comm.allgather(self._node_comm.bcast(self.comm.rank))
        members: dict[int, list[int]] = {}
        for rank, name in enumerate(names):
            members.setdefault(name, []).append(rank)
        return np.array(members.pop(names[self.comm.rank]), np.int64), list(members.values())

    def start_send(self, flags: int) -> None:
        """Publish messages to this node, begin to forward those to others."""
        self._publish(self.node, self.packed, self.sent, flags)
        self._begin_meeting(self.node)
        if self.direct:
            return
        # What is forwarded is that of all ranks of the node.
        self._end_meeting(self.node)
        node = self.node
        self._forwarding.start_send(node.all_sent, self.inbox.local, node.segment)

    def finish_send(self) -> int:
        """Wait for the messages to this rank; see `base.Exchange.send`."""
        if self.direct:
            self._end_meeting(self.node)
        counts = self.inbox.counts
        agreed, replies = self._locate(self.node, counts, self._starts, self._reply_starts)
        if replies > self.replies.local.size:
            self.reserve_replies(replies)
        if self.direct:
            return agreed
        self._forwarding.finish_counts(counts, self._starts, self._reply_starts)
        self.reserve_remote(*self._forwarding.incoming)
        self._forwarding.finish_send(self.inbox.remote)
        return int(np.bitwise_or.reduce(counts[:, FLAGS]))

    def start_reply(self) -> None:
        """Publish replies to this node, begin to send those to others."""
        self._publish_replies(self.node, self.written)
        if self.direct:
            self._begin_meeting(self.node)
        else:
            self._forwarding.start_reply(self.replies.remote)

    def finish_reply(self) -> None:
        """Wait for the replies to this rank."""
        if self.direct:
            self._end_meeting(self.node)
            return
        node = self.node
        self._forwarding.finish_reply(node.all_sent, self._replies_window, node.reply_segment)
        self._begin_meeting(node)
        self._end_meeting(node)

    def network_messages(self) -> int:
        """Return the messages to other nodes: updates and queries, and replies."""
        return self._forwarding.messages()
