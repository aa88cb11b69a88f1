"""Asynchronous requests through the shared memory of a node.

A rank's environments are in parts, and each part has a box: it posts a request there (for each
owner its updates, then its queries), every owner answers it when it comes to that, and the part
goes on once all have. Requests are counted, and so are answers: a part has at most one request
under way, so that its box is free again when the last owner has answered.

Who finds nothing to do sleeps at its bell, which whoever posts or answers rings.
"""

from typing import NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from hpcq.exchange.base import (
    ACKS,
    COLUMNS,
    QUERIES,
    REPLIES_AT,
    START,
    UPDATES,
    Inbox,
    Replies,
    RequestingExchange,
)
from hpcq.exchange.epochs import LEAST_NS, look_limits
from hpcq.exchange.shared_memory import Shapes, shared_arrays
from hpcq.exchange.shm_kernels import stream
from hpcq.jit.atomics import LINE, add, clock_ns, load, pause, replace, sleep_while, store, wake
from hpcq.jit.compiler import PrecompiledCall, inlined, kernel
from hpcq.jit.memory import fence
from hpcq.mpi import node_of

Words = NDArray[np.int32]

# A bell counts twice: the last bit says that somebody sleeps at it.
_ASLEEP, _RUNG = np.int32(1), np.int32(2)

# Columns of `rounds`.
STEPS, FLAGS = 0, 1


class Mailboxes(NamedTuple):
    """What the ranks of a node share, and this rank's place in it.

    A source is a part of a rank: number rank * parts + part.
    """

    posts: Words
    """(sources, LINE), requests posted"""
    answers: Words
    """(ranks * sources, LINE), of each owner: requests answered"""
    bells: Words
    """(2 * ranks, LINE): of who steps environments, then of who answers"""
    sent: NDArray[np.int64]
    """(sources, ranks, COLUMNS), how requests are grouped"""
    messages: NDArray
    """(sources * segment,)"""
    posted: NDArray[np.uint64]
    """the same memory"""
    replies: NDArray[np.uint64]
    """(sources * reply_segment * reply_words,)"""
    round_epochs: Words
    """(ranks, LINE), rounds that a rank has come to"""
    rounds: NDArray[np.int64]
    """(2, ranks, 8), its STEPS and FLAGS there, of odd and even rounds"""
    rank: int
    ranks: int
    parts: int
    message_words: int
    reply_words: int
    segment: int
    """messages that a source has space for"""
    reply_segment: int
    look_ns: NDArray[np.int64]
    """(2,), of this rank: see `epochs.look_limits`"""
    nbytes: NDArray[np.int64]
    """(1,), of this rank: bytes sent to other ranks"""


def make_mailboxes(
    comm: MPI.Intracomm,
    parts: int,
    message: DTypeLike,
    reply: DTypeLike,
    max_messages: int,
    max_replies: int,
) -> Mailboxes | None:
    """Return the boxes of these ranks, or None where they share no memory. Collective.

    Parameters
    ----------
    max_messages, max_replies
        the most of a request of this rank.
    """
    node = node_of(comm)
    if comm.allreduce(node.size, MPI.MIN) < comm.size:
        node.Free()
        return None
    largest = np.array([max_messages, max_replies], np.int64)
    node.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
    # A multiple of 8 records of whole words: every box starts at a cache line.
    segment, reply_segment = (-(-largest // 8) * 8).tolist()
    ranks, sources = comm.size, comm.size * parts
    word, number = np.dtype(np.int32), np.dtype(np.int64)
    shapes: Shapes = [
        ((sources, LINE), word),
        ((ranks * sources, LINE), word),
        ((2 * ranks, LINE), word),
        ((ranks, LINE), word),
        ((sources, ranks, COLUMNS), number),
        ((2, ranks, 8), number),
        ((sources * segment,), np.dtype(message)),
        ((sources * reply_segment,), np.dtype(reply)),
    ]
    arrays = shared_arrays(comm, node, shapes)
    node.Free()
    if arrays is None:
        return None
    posts, answers, bells, round_epochs, sent, rounds, messages, replies = arrays
    return Mailboxes(
        posts,
        answers,
        bells,
        sent,
        messages,
        messages.view(np.uint64),
        replies.view(np.uint64),
        round_epochs,
        rounds,
        comm.rank,
        ranks,
        parts,
        np.dtype(message).itemsize // 8,
        np.dtype(reply).itemsize // 8,
        segment,
        reply_segment,
        look_limits(),
        np.zeros(1, np.int64),
    )


@inlined
def has_come_to(words: Words, index: int, count: int) -> bool:
    """Return whether a counter has come to a number; counters wrap around."""
    return bool(np.int32(load(words, index) - np.int32(count)) >= 0)


@inlined
def ring(bells: Words, bell: int) -> None:
    """Let whoever sleeps at a bell look for work."""
    if add(bells, bell, _RUNG) & _ASLEEP:
        wake(bells, bell)


@kernel
def listen(bells: Words, bell: int, heard: int, look_ns: NDArray[np.int64], most_ns: int) -> None:
    """Wait until a bell is rung that stood at `heard`, or for so long; maybe less.

    look_ns   see `epochs.await_epoch`
    """
    before, began = np.int32(heard) & ~_ASLEEP, clock_ns()
    while clock_ns() - began < look_ns[0]:
        for _ in range(4):
            pause()
            if load(bells, bell) & ~_ASLEEP != before:
                look_ns[0] = min(look_ns[1], 2 * look_ns[0])
                return
    look_ns[0] = min(look_ns[1], max(LEAST_NS, look_ns[0] // 2))
    word = load(bells, bell)
    asleep = word | _ASLEEP
    if word & ~_ASLEEP == before and replace(bells, bell, word, asleep):
        sleep_while(bells, bell, asleep, most_ns)
        word = load(bells, bell)
        while not replace(bells, bell, word, word & ~_ASLEEP):
            word = load(bells, bell)


@kernel
def post(
    boxes: Mailboxes,
    part: int,
    number: int,
    packed: NDArray[np.uint64],
    sent: NDArray[np.int64],
    first_bell: int,
) -> None:
    """Post request `number` of a part of this rank, and ring the owners' bells.

    packed       its messages as uint64
    sent         int64 (ranks, COLUMNS)
    first_bell   of those who answer: bell `first_bell` + rank
    """
    source, words = boxes.rank * boxes.parts + part, boxes.message_words
    start = np.uint64(source * boxes.segment * words)
    for rank in range(boxes.ranks):
        # What this rank has for itself is read where it was packed.
        if rank != boxes.rank:
            first = np.uint64(sent[rank, START] * words)
            count = np.uint64((sent[rank, UPDATES] + sent[rank, QUERIES]) * words)
            stream(packed, first, boxes.posted, start + first, start + first + count)
            boxes.nbytes[0] += 8 * np.int64(count)
    for rank in range(boxes.ranks):
        for column in range(COLUMNS):
            boxes.sent[source, rank, column] = sent[rank, column]
    if boxes.ranks > 1:
        fence()
    store(boxes.posts, source, np.int32(number))
    for rank in range(boxes.ranks):
        ring(boxes.bells, first_bell + rank)


@kernel
def answered(boxes: Mailboxes, part: int, number: int) -> bool:
    """Return whether all owners have answered request `number` of a part of this rank."""
    sources = boxes.ranks * boxes.parts
    source = boxes.rank * boxes.parts + part
    for owner in range(boxes.ranks):
        if not has_come_to(boxes.answers, owner * sources + source, number):
            return False
    return True


@inlined
def take_request(boxes: Mailboxes, source: int, inbox: Inbox, replies: Replies) -> None:
    """Find what a source asks of this rank: an inbox of one source, and the place of the replies.

    inbox     local: `messages`; remote: what this rank has packed for itself, a segment a part
    replies   local: for this request alone; remote: the replies of all boxes
    """
    sent = boxes.sent[source, boxes.rank]
    for column in range(COLUMNS):
        inbox.counts[0, column] = sent[column]
    own = source // boxes.parts == boxes.rank
    inbox.is_remote[0] = own
    part = source % boxes.parts if own else source
    inbox.starts[0] = part * boxes.segment + sent[START]
    replies.starts[0] = source * boxes.reply_segment + sent[REPLIES_AT] if own else 0


@kernel
def put_answer(boxes: Mailboxes, source: int, number: int, written: NDArray[np.uint64]) -> None:
    """Copy the replies to request `number` of a source into its box, and ring its bell.

    written   as uint64
    """
    rank = source // boxes.parts
    if rank != boxes.rank:
        sent, words = boxes.sent[source, boxes.rank], boxes.reply_words
        count = np.uint64((sent[ACKS] + sent[QUERIES]) * words)
        start = np.uint64((source * boxes.reply_segment + sent[REPLIES_AT]) * words)
        stream(written, np.uint64(0), boxes.replies, start, start + count)
        boxes.nbytes[0] += 8 * np.int64(count)
        fence()
    sources = boxes.ranks * boxes.parts
    store(boxes.answers, boxes.rank * sources + source, np.int32(number))
    ring(boxes.bells, rank)


class MailboxExchange(RequestingExchange):
    """The requests of one part; see `base.Exchange` for its arrays.

    Parameters
    ----------
    answering_bell
        the first of the bells of those who answer.
    own_messages
        where the parts of this rank pack their messages, a segment each.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        boxes: Mailboxes,
        part: int,
        answering_bell: int,
        message: DTypeLike,
        reply: DTypeLike,
        own_messages: NDArray,
    ) -> None:
        super().__init__(comm, message, reply, 0, 0)
        self.boxes, self.part = boxes, part
        self.outbox = own_messages[part * boxes.segment :][: boxes.segment]
        self.packed = self.outbox.view(np.uint64)
        start = (comm.rank * boxes.parts + part) * boxes.reply_segment
        replies = boxes.replies.view(self.reply_type)
        self.replies_in = replies[start : start + boxes.reply_segment]
        self._bell = answering_bell
        self._post, self._answered = PrecompiledCall(post), PrecompiledCall(answered)

    def isend(self) -> None:
        """Post `outbox` as `sent` says."""
        self.posted += 1
        self._post(self.boxes, self.part, self.posted, self.packed, self.sent, self._bell)

    def test(self) -> bool:
        """Return whether all replies have arrived."""
        return self._answered(self.boxes, self.part, self.posted)
