"""Asynchronous requests: each owner replies when it comes to serve them.

A request holds the updates, then the queries, of some environments to one owner; every request has
a reply. Requests are numbered: a rank has at most one outstanding request of each number with each
owner. That bounds the messages in flight, and a reply's buffer is free again when the next request
of that number arrives.
"""

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange.base import (
    QUERIES,
    REPLIES_AT,
    START,
    UPDATES,
    RequestingExchange,
    ensure_capacity,
)
from hpcq.mpi import wait_all

# The tag of requests, and that of replies to requests of number 0.
_REQUEST, _REPLY = 31, 32

# The header of a request: its number, updates, queries, padding.
_HEAD = np.dtype((np.int32, 4))

Answer = Callable[[NDArray, int, int, NDArray], None]


class RequestServer:
    """Serves the requests to this rank. Making one is collective.

    Parameters
    ----------
    comm
        of which it takes a duplicate: its messages never meet those of another server.
    answer
        called as ``answer(records, updates, queries, replies)``: writes the replies to the queries,
        which follow the updates.

    Attributes
    ----------
    messages, nbytes : int
        sent to other ranks so far, requests and replies
    served : int
        requests of others answered so far
    """

    def __init__(
        self, comm: MPI.Intracomm, message: DTypeLike, reply: DTypeLike, answer: Answer
    ) -> None:
        self.comm = comm.Dup()
        self.message, self.reply_type = np.dtype(message), np.dtype(reply)
        self.answer = answer
        self.messages = self.nbytes = self.served = 0
        self._incoming = np.empty(0, np.uint8)
        self._status = MPI.Status()
        self._replies: dict[tuple[int, int], tuple[MPI.Request, NDArray]] = {}

    def serve(self) -> int:
        """Reply to the requests that have arrived; return how many."""
        status, found = self._status, 0
        while self.comm.Iprobe(MPI.ANY_SOURCE, _REQUEST, status):
            source, size = status.source, status.Get_count(MPI.BYTE)
            self._incoming = ensure_capacity(self._incoming, size)
            self.comm.Recv([self._incoming, size, MPI.BYTE], source, _REQUEST)
            number, updates, queries, _ = self._incoming[: _HEAD.itemsize].view(np.int32).tolist()
            replies = ensure_capacity(self._free_replies(source, number), queries)
            records = self._incoming[_HEAD.itemsize : size].view(self.message)
            self.answer(records, updates, queries, replies)
            reply = [replies[:queries], MPI.BYTE]
            request = self.comm.Isend(reply, source, _REPLY + number)
            self._replies[source, number] = request, replies
            self.note(queries * replies.itemsize)
            found += 1
        self.served += found
        return found

    def _free_replies(self, source: int, number: int) -> NDArray:
        """Return the buffer of the last replies: received by now, or there were no new request."""
        if (source, number) not in self._replies:
            return np.empty(0, self.reply_type)
        request, replies = self._replies[source, number]
        request.Wait()
        return replies

    def note(self, nbytes: int) -> None:
        """Count a message to another rank."""
        self.messages += 1
        self.nbytes += nbytes

    def close(self) -> None:
        """Wait until the last replies are sent. Collective."""
        wait_all([request for request, _ in self._replies.values()])
        self.comm.Free()


class RequestExchange(RequestingExchange):
    """The requests of one number; see `base.Exchange` for its arrays."""

    def __init__(
        self, server: RequestServer, number: int, max_messages: int, max_replies: int
    ) -> None:
        super().__init__(server.comm, server.message, server.reply_type, max_messages, max_replies)
        self._server, self._number = server, number
        self._send_buffer = np.empty(self.outbox.nbytes + self.comm.size * _HEAD.itemsize, np.uint8)
        self._requests: list[MPI.Request] = []

    def isend(self) -> None:
        """Send `outbox` to the owners as `sent` says; answer this rank's own part at once."""
        self.posted += 1
        records, at, self._requests = self.outbox.view(np.uint8), 0, []
        for rank, row in enumerate(self.sent.tolist()):
            updates, queries = row[UPDATES], row[QUERIES]
            replies = self.replies_in[row[REPLIES_AT] : row[REPLIES_AT] + queries]
            if rank == self.comm.rank:
                own = self.outbox[row[START] :], updates, queries, replies
                continue
            if updates + queries == 0:
                continue
            tag = _REPLY + self._number
            self._requests.append(self.comm.Irecv([replies, MPI.BYTE], rank, tag))
            first = row[START] * self.message.itemsize
            size = (updates + queries) * self.message.itemsize
            message = self._send_buffer[at : at + _HEAD.itemsize + size]
            message[: _HEAD.itemsize].view(np.int32)[:] = self._number, updates, queries, 0
            message[_HEAD.itemsize :] = records[first : first + size]
            self._requests.append(self.comm.Isend([message, MPI.BYTE], rank, _REQUEST))
            self._server.note(message.size)
            at += message.size
        self._server.answer(*own)

    def test(self) -> bool:
        """Return whether all replies have arrived."""
        return bool(MPI.Request.Testall(self._requests))
