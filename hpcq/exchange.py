"""Route records to the ranks that own them, and the replies back. The only file that exchanges.

Each tick every rank sends one message array, grouped by owner: for each owner its updates, then
its queries. The owner sees the sources in rank order and each source's records in the order in
which they were packed; with environments in contiguous blocks per rank that is environment
order, for any number of ranks. Replies travel back with the counts mirrored.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

UPDATES, QUERIES, FLAGS = 0, 1, 2


class _Groups:
    """How many records of a buffer belong to each rank, and where they start."""

    def __init__(self, ranks: int) -> None:
        self.counts = np.zeros(ranks, np.int64)
        self.starts = np.zeros(ranks, np.int64)

    def set(self, *columns: NDArray[np.int64]) -> int:
        """Take the sum of the columns as counts; return the number of records in all."""
        self.counts[:] = columns[0]
        for column in columns[1:]:
            self.counts += column
        np.cumsum(self.counts[:-1], out=self.starts[1:])
        return int(self.starts[-1] + self.counts[-1])

    def of(self, buffer: NDArray, record: MPI.Datatype) -> list[Any]:
        """Return the message specification of a buffer grouped like this."""
        return [buffer, self.counts, self.starts, record]


def _room(array: NDArray, needed: int) -> NDArray:
    """Return `array`, or a larger one where it is too small; contents are lost then."""
    if needed <= array.size:
        return array
    return np.empty(max(needed, 2 * array.size), array.dtype)


class Exchange:
    """The message buffers of one rank and the collective calls that fill them.

    Parameters
    ----------
    comm
        the ranks that share the table.
    message, reply
        record types, from `rules.record_types`.
    most_updates, most_queries
        the most that this rank sends in one tick.

    Attributes
    ----------
    outbox, inbox : messages sent and received in this tick
    sent, received : int64 (ranks, 3): updates, queries, flags to and from each rank
    replies_out, replies_in : replies this rank gives and gets
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        message: np.dtype,
        reply: np.dtype,
        most_updates: int,
        most_queries: int,
    ) -> None:
        self.comm = comm
        self.sent = np.zeros((comm.size, 3), np.int64)
        self.received = np.zeros((comm.size, 3), np.int64)
        self.outbox = np.empty(most_updates + most_queries, message)
        self.replies_in = np.empty(most_queries, reply)
        self._alone = comm.size == 1
        # On one rank what goes out is what comes in: no copy, no call.
        self.inbox = self.outbox if self._alone else np.empty(0, message)
        self.replies_out = self.replies_in if self._alone else np.empty(0, reply)
        self._outgoing, self._incoming = _Groups(comm.size), _Groups(comm.size)
        self._given, self._got = _Groups(comm.size), _Groups(comm.size)
        self._message = MPI.BYTE.Create_contiguous(message.itemsize).Commit()
        self._reply = MPI.BYTE.Create_contiguous(reply.itemsize).Commit()

    def send(self, flags: int) -> int:
        """Send `outbox` as `sent` says; return the flags of all ranks, or-ed. Collective."""
        self.sent[:, FLAGS] = flags
        if self._alone:
            self.received[:] = self.sent
            return flags
        self.comm.Alltoall(self.sent, self.received)
        self._outgoing.set(self.sent[:, UPDATES], self.sent[:, QUERIES])
        messages = self._incoming.set(self.received[:, UPDATES], self.received[:, QUERIES])
        self.inbox = _room(self.inbox, messages)
        self.comm.Alltoallv(
            self._outgoing.of(self.outbox, self._message),
            self._incoming.of(self.inbox, self._message),
        )
        self.replies_out = _room(self.replies_out, self._given.set(self.received[:, QUERIES]))
        self._got.set(self.sent[:, QUERIES])
        return int(np.bitwise_or.reduce(self.received[:, FLAGS]))

    def reply(self) -> None:
        """Send `replies_out` back to where the queries came from. Collective."""
        if self._alone:
            return
        self.comm.Alltoallv(
            self._given.of(self.replies_out, self._reply),
            self._got.of(self.replies_in, self._reply),
        )

    def bytes_sent_elsewhere(self) -> int:
        """Return the bytes of the last tick that this rank sent to other ranks."""
        messages = self.sent[:, UPDATES] + self.sent[:, QUERIES]
        other = np.arange(self.comm.size) != self.comm.rank
        given = self.received[:, QUERIES]
        return int(
            messages[other].sum() * self.outbox.itemsize
            + given[other].sum() * self.replies_out.itemsize
        )

    def free(self) -> None:
        """Release the MPI datatypes."""
        self._message.Free()
        self._reply.Free()
