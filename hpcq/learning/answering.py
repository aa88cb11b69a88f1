"""Owners answer requests in the boxes of a node: between steps, or in a thread of their own.

A compiled environment steps fast: its rank answers between the steps of its parts. A Python
environment may take its time: there a thread answers, in a kernel, without Python's lock.
"""

import functools
import threading
import time
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange.base import COLUMNS as COUNTED
from hpcq.exchange.base import QUERIES, UPDATES, Inbox, Replies
from hpcq.exchange.mailboxes import (
    Mailboxes,
    has_come_to,
    listen,
    put_answer,
    take_request,
)
from hpcq.exchange.requests import RequestServer
from hpcq.jit.atomics import LINE, load
from hpcq.jit.compiler import PrecompiledCall, inlined, kernel
from hpcq.job.scheduled import Terms, value_at
from hpcq.learning.owner import Owner
from hpcq.learning.prefetch import SlotHints
from hpcq.mpi import FIRST_SLEEP
from hpcq.table.hash_table import Table

# Columns of `at`, where an owner is:
#   SOURCE   whose request it answers, or answered last
#   PHASE    of that: the next of those below
#   DONE     updates done
#   STEPS    environment steps done by all, as far as is known here: for schedules
SOURCE, PHASE, DONE, STEPS = range(4)
COLUMNS = 4
IDLE, APPLY, ANSWER = range(3)

# A thread that answers looks so often whether it is still wanted.
_LISTEN_NS = 100_000_000
# A rank that also waits for messages looks for them so often.
_SHORT_NS = 1_000_000

_value_at = inlined(value_at)


@functools.cache
def make_serve(answer: Any, apply: Any) -> Any:
    """Return the kernel that answers the requests that have come, each source's next one."""

    @kernel
    def serve(
        at: NDArray[np.int64],
        served: NDArray[np.int64],
        boxes: Mailboxes,
        table: Table,
        inbox: Inbox,
        replies: Replies,
        written: NDArray[np.uint64],
        slots: NDArray[np.uint64],
        hint_starts: NDArray[np.int64],
        learning_rate: Terms,
        parameter: Terms,
        apply_settings: Any,
    ) -> int:
        """Return how many were answered, or -1 where the table must grow first.

        served    int64 (sources,), in and out: requests answered
        inbox     of one source, out
        replies   to it, out; those to other ranks also as `written`, uint64
        slots     uint64 (2, sources, queries), in and out: hints of each source's last two answers
        hint_starts   int64 (1,), scratch
        """
        source, phase, found = at[SOURCE], at[PHASE], 0
        for _ in range(served.size):
            if phase == IDLE:
                source = (source + 1) % served.size
                if not has_come_to(boxes.posts, source, served[source] + 1):
                    continue
                take_request(boxes, source, inbox, replies)
                at[DONE], phase = 0, APPLY
            hints = SlotHints(slots[served[source] & 1, source], hint_starts)
            rate = _value_at(learning_rate, at[STEPS])
            done = apply(table, inbox, hints, None, at[DONE], rate, *apply_settings)
            if done >= 0:
                at[SOURCE], at[PHASE], at[DONE] = source, APPLY, done
                return -1
            # There is room for the hints of all that a request can hold.
            answer(table, inbox, _value_at(parameter, at[STEPS]), hints, replies)
            served[source] += 1
            put_answer(boxes, source, served[source], written)
            phase = IDLE
            found += 1
        at[SOURCE], at[PHASE] = source, IDLE
        return found

    return serve


@functools.cache
def make_serve_on(serve: Any) -> Any:
    """Return the kernel that answers until the table must grow, or a word is no longer 0."""

    @kernel
    def serve_on(stop: NDArray[np.int32], bell: int, boxes: Mailboxes, arguments: Any) -> bool:
        """Return whether the table must grow."""
        while True:
            heard = load(boxes.bells, bell)
            found = serve(*arguments)
            if found < 0:
                return True
            if load(stop, 0) != 0:
                return False
            if found == 0:
                listen(boxes.bells, bell, heard, boxes.look_ns, _LISTEN_NS)

    return serve_on


class MessageServer(RequestServer):
    """Answers the requests to this rank that come as messages."""

    def __init__(
        self, comm: MPI.Intracomm, message: DTypeLike, reply: DTypeLike, owner: Owner
    ) -> None:
        super().__init__(comm, message, reply, self._answer)
        self._owner, self._steps = owner, 0
        self._counts = np.zeros((1, COUNTED), np.int64)
        self._is_remote, self._starts = np.zeros(1, np.bool_), np.zeros(1, np.int64)

    def start(self) -> None:
        """Do nothing: no thread answers."""

    def set_steps(self, steps: int) -> None:
        """Note the environment steps done by all ranks."""
        self._steps = steps

    def _answer(self, records: NDArray, updates: int, queries: int, replies: NDArray) -> None:
        """Apply updates, then answer queries, as the owner of their states."""
        self._counts[0, UPDATES], self._counts[0, QUERIES] = updates, queries
        inbox = Inbox(records, records, self._is_remote, self._starts, self._counts)
        out = Replies(replies, replies, self._starts)
        self._owner.apply(inbox, out, self._steps)
        self._owner.answer(inbox, out, self._steps)

    def stop(self) -> None:
        """Do nothing: no thread answers."""

    def hear(self) -> int:
        """Return what `listen` needs."""
        return 0

    def listen(self, heard: int) -> None:
        """Sleep for a moment."""
        time.sleep(FIRST_SLEEP)

    def received(self) -> int:
        """Return the updates and queries of the last request."""
        return int(self._counts[0, UPDATES] + self._counts[0, QUERIES])


class MailboxServer:
    """Answers the requests to this rank.

    Parameters
    ----------
    threaded
        whether a thread does, rather than `serve`.

    Attributes
    ----------
    at : int64 array
        see above
    bell : int
        the first of the bells of those who answer
    counts : int64 array
        (1, exchange.base.COLUMNS), of the last request
    own_messages : array
        where the parts of this rank pack their messages, a segment each
    messages, nbytes : int
        sent to other ranks so far: memory needs no message
    """

    messages = 0

    def __init__(self, owner: Owner, boxes: Mailboxes, reply: np.dtype, threaded: bool) -> None:
        self._owner, self.boxes, self._threaded = owner, boxes, threaded
        self.at = np.zeros(COLUMNS, np.int64)
        self.counts = np.zeros((1, COUNTED), np.int64)
        self.bell = boxes.ranks if threaded else 0
        sources, most = boxes.ranks * boxes.parts, boxes.reply_segment
        self._served = np.zeros(sources, np.int64)
        self.own_messages = np.empty(boxes.parts * boxes.segment, boxes.messages.dtype)
        number = np.zeros(1, np.int64)
        self._inbox = Inbox(
            boxes.messages, self.own_messages, np.zeros(1, np.bool_), number, self.counts
        )
        written = np.empty(most, reply)
        self._replies = Replies(written, boxes.replies.view(reply), np.zeros_like(number))
        self._written = written.view(np.uint64)
        self._slots = np.zeros((2, sources, most), np.uint64)
        self._hint_starts = np.zeros(1, np.int64)
        self.kernel = make_serve(*owner.kernels)
        self._serve = PrecompiledCall(self.kernel)
        self._listen = PrecompiledCall(listen)
        self._stop = np.zeros((1, LINE), np.int32)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def served(self) -> int:
        """Requests answered so far."""
        return int(self._served.sum())

    @property
    def nbytes(self) -> int:
        """Bytes sent to other ranks so far."""
        return int(self.boxes.nbytes[0])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What `kernel` gets."""
        owner = self._owner
        return (
            self.at,
            self._served,
            self.boxes,
            owner.shard.table,
            self._inbox,
            self._replies,
            self._written,
            self._slots,
            self._hint_starts,
            owner.learning_rate,
            owner.parameter,
            owner.apply_settings,
        )

    def set_steps(self, steps: int) -> None:
        """Note the environment steps done by all ranks."""
        self.at[STEPS] = steps

    def hear(self) -> int:
        """Return where the bell of this rank stands."""
        return int(self.boxes.bells[self.boxes.rank, 0])

    def listen(self, heard: int) -> None:
        """Wait until the bell is rung that stood at `heard`, or for a moment."""
        boxes = self.boxes
        self._listen(boxes.bells, boxes.rank, heard, boxes.look_ns, _SHORT_NS)

    def start(self) -> None:
        """Begin to answer in a thread, if that is wanted."""
        # Compiles: the bell does not stand there.
        self.listen(self.hear() - 2)
        if self._threaded and self._thread is None:
            self._thread = threading.Thread(target=self._answer, name="answering", daemon=True)
            self._thread.start()

    def _answer(self) -> None:
        serve_on = PrecompiledCall(make_serve_on(self.kernel))
        bell = self.bell + self.boxes.rank
        try:
            while serve_on(self._stop, bell, self.boxes, self.arguments):
                self._owner.shard.grow()
        except BaseException as error:
            self._error = error

    def serve(self) -> int:
        """Answer the requests that have come, if no thread does; return how many.

        Raises
        ------
        MemoryError
            or what else ended the thread.
        """
        if self._error is not None:
            raise self._error
        if self._thread is not None:
            return 0
        while (found := self._serve(*self.arguments)) < 0:
            self._owner.shard.grow()
        return found

    def received(self) -> int:
        """Return the updates and queries of the last request."""
        return int(self.counts[0, UPDATES] + self.counts[0, QUERIES])

    def close(self) -> None:
        """End the thread; nothing else is left to do."""
        self.stop()

    def stop(self) -> None:
        """End the thread, if there is one."""
        if self._thread is not None:
            self._stop[0, 0] = 1
            self._thread.join()
            self._thread = None
