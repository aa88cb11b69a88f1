"""Every rank to every rank: MPI's Alltoallv, in rounds of bounded size."""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.exchange.base import ACKS, FLAGS, QUERIES, START, UPDATES, Exchange
from hpcq.mpi import wait_all

# At most this many bytes reach a rank in one round: MPI counts in 32 bits.
ROUND_BYTES = 256 << 20

# A column of the counts as they travel, in place of one that only the sender needs: its largest
# group of messages.
_LARGEST = START


class _Groups:
    """How many records of a buffer belong to each rank, and where they start."""

    def __init__(self, ranks: int) -> None:
        self.counts = np.zeros(ranks, np.int64)
        self.starts = np.zeros(ranks, np.int64)
        self._round_counts = np.zeros(ranks, np.int64)
        self._round_starts = np.zeros(ranks, np.int64)

    def set(self, *columns: NDArray[np.int64]) -> int:
        """Take the sum of the columns as counts; return the number of records in all."""
        self.counts[:] = columns[0]
        for column in columns[1:]:
            self.counts += column
        np.cumsum(self.counts[:-1], out=self.starts[1:])
        return int(self.starts[-1] + self.counts[-1])

    def round(self, buffer: NDArray, record: MPI.Datatype, done: int, limit: int) -> list[Any]:
        """Return the message specification of up to `limit` records of each rank from `done` on."""
        np.clip(self.counts - done, 0, limit, out=self._round_counts)
        np.add(self.starts, done, out=self._round_starts)
        # A group that is done may start beyond what MPI can count.
        self._round_starts[self._round_counts == 0] = 0
        return [buffer, self._round_counts, self._round_starts, record]


class AlltoallvExchange(Exchange):
    """Exchange through Alltoallv; see `base.Exchange`."""

    def __init__(self, *arguments: Any, round_bytes: int = ROUND_BYTES) -> None:
        super().__init__(*arguments)
        ranks = self.comm.size
        self._outgoing, self._incoming = _Groups(ranks), _Groups(ranks)
        self._replies_out, self._replies_back = _Groups(ranks), _Groups(ranks)
        self._round_records = max(1, round_bytes // self.message.itemsize // ranks)
        self._largest = 0
        self._told = np.empty_like(self.sent)
        self._request = MPI.REQUEST_NULL
        self._records = MPI.BYTE.Create_contiguous(self.message.itemsize).Commit()
        self._reply_records = MPI.BYTE.Create_contiguous(self.reply_type.itemsize).Commit()

    def start_send(self, flags: int) -> None:
        """Begin to send the counts."""
        told, sent = self._told, self.sent
        told[:] = sent
        told[:, FLAGS] = flags
        told[:, _LARGEST] = (sent[:, UPDATES] + sent[:, QUERIES]).max()
        self._request = self.comm.Ialltoall(told, self.inbox.counts)

    def finish_send(self) -> int:
        """Wait for the counts, then send the messages."""
        sent, received = self.sent, self.inbox.counts
        wait_all([self._request])
        # The maximum over all sources: the same number on every rank.
        self._largest = int(received[:, _LARGEST].max())
        self._outgoing.set(sent[:, UPDATES], sent[:, QUERIES])
        messages = self._incoming.set(received[:, UPDATES], received[:, QUERIES])
        replies = self._replies_out.set(received[:, ACKS], received[:, QUERIES])
        self._replies_back.set(sent[:, ACKS], sent[:, QUERIES])
        self._starts[:] = self._incoming.starts
        self._reply_starts[:] = self._replies_out.starts
        self.reserve_remote(messages, replies)
        self._rounds(
            (self._outgoing, self.outbox), (self._incoming, self.inbox.remote), self._records
        )
        return int(np.bitwise_or.reduce(received[:, FLAGS]))

    def start_reply(self) -> None:
        """Do nothing: the rounds of replies wait for each other."""

    def finish_reply(self) -> None:
        """Send the replies."""
        self._rounds(
            (self._replies_out, self.replies.remote),
            (self._replies_back, self.replies_in),
            self._reply_records,
        )

    def _rounds(self, out: tuple, into: tuple, record: MPI.Datatype) -> None:
        for done in range(0, self._largest, self._round_records):
            request = self.comm.Ialltoallv(
                out[0].round(out[1], record, done, self._round_records),
                into[0].round(into[1], record, done, self._round_records),
            )
            wait_all([request])

    def network_messages(self) -> int:
        """Return the messages of counts, updates and queries, and replies, to every other rank."""
        return 3 * (self.comm.size - 1)

    def free(self) -> None:
        """Release the MPI datatypes."""
        self._records.Free()
        self._reply_records.Free()
