"""Asynchronous mode: no rank waits for a slower one.

The environments of a rank are cut into parts. A part steps, sends each owner one request (its
updates, then its queries; see exchange/letters.py) and goes on when all owners have replied;
meanwhile the other parts step. An owner answers requests as they arrive: between parts, and between
the steps of Python environments. So what a rank learns from is the table as it stands somewhere, a
moment ago, and the result differs from run to run.

Every request has a reply, so that a rank whose parts all have theirs has nothing under way; when
all ranks say so (a barrier that does not block), nothing is under way anywhere: there the run can
be saved, or end.

Steps and flags are summed over the ranks in rounds, one after the other, by a non-blocking
reduction. Within one round no part takes more than `mode.max_staleness` ticks.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, block
from hpcq.collectors.batch import view_of
from hpcq.collectors.history import Windows
from hpcq.collectors.partitioned import PartitionedCollector
from hpcq.collectors.python import PythonCollector
from hpcq.envs import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.exchange.base import COLUMNS, QUERIES, UPDATES, Exchange, Inbox, Replies
from hpcq.exchange.requests import RequestExchange, RequestServer
from hpcq.job.job import Job
from hpcq.learning.learner import Learner

_BITS = 8


class _Part:
    """Some environments of a rank, and their side of the messages."""

    def __init__(self, collector: Collector, windows: Windows, exchange: RequestExchange) -> None:
        self.collector = collector
        self.windows = windows
        self.exchange = exchange
        self.tick = 0
        self.budget = 0
        """ticks that it may still take in this round"""
        self.waiting = False


class AsynchronousLearner(Learner):
    """A learner that goes from round to round, not from tick to tick.

    `advance` ends with a round, and `tick` is the number of ticks that the steps of all ranks
    together are worth.
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
    ) -> None:
        self._parts: list[_Part] = []
        super().__init__(job, environment, comm, Exchange)
        self._all = self.collector, self.windows, self.exchange
        self._server = RequestServer(
            comm, self.exchange.message, self.exchange.reply_type, self._serve_records
        )
        start = 0
        for number, collector in enumerate(getattr(self.collector, "parts", [])):
            size = collector.stream_ids.size
            windows = view_of(self.windows, slice(start, start + size))
            exchange = RequestExchange(
                self._server, number, (self.algorithm.steps + 2) * size, 2 * size
            )
            self._parts.append(_Part(collector, windows, exchange))
            start += size
        self._desk_counts = np.zeros((1, COLUMNS), np.int64)
        self._desk_is_far, self._desk_start = np.zeros(1, np.bool_), np.zeros(1, np.int64)
        self._next = self._mine = self._known = self._clock = 0
        self._told = 0, 0
        self._quiescent = False

    def collect(self, start: int, count: int) -> Collector:
        """Return the collector of a block of environments: one of several parts."""
        unit = self.job.environment.vector or 1
        pieces = [block(i, self.job.mode.parts, count, unit) for i in range(self.job.mode.parts)]
        parts = [super(AsynchronousLearner, self).collect(start + at, n) for at, n in pieces if n]
        for part in parts:
            if isinstance(part, PythonCollector):
                part.call_between(self._serve)
        return PartitionedCollector(parts) if parts else super().collect(start, 0)

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks, as of the last round."""
        return self._known

    @property
    def clock(self) -> int:
        """The tick that all parts of all ranks have in common when they have settled."""
        return self._clock

    @property
    def reset_every(self) -> int:
        """The job can be saved at any time: `quiesce` makes a quiet tick."""
        return 1

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        return 2 * self.job.mode.max_staleness + 1

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others since the last call."""
        before, self._told = self._told, (self._server.messages, self._server.nbytes)
        return self._told[0] - before[0], self._told[1] - before[1]

    def begin(self) -> None:
        """Reset every environment and choose the first actions. Collective."""
        self.tick = 0
        for part in self._parts:
            self._turn_to(part)
            part.collector.begin()
            self._ask(part)
        self._finish()

    def advance(self, flags: int = 0) -> int:
        """Go on until all together have done a tick's worth of steps, or more. Collective."""
        agreed, before = 0, self._known // self.job.environment.count
        while self._known // self.job.environment.count == before:
            agreed |= self._round(flags)
        self._turn_back()
        return agreed

    def _round(self, flags: int) -> int:
        """Step until all ranks have told their steps and flags; return the flags. Collective."""
        self._quiescent = False
        mine = np.array([self._mine, *((flags >> bit) & 1 for bit in range(_BITS))], np.int64)
        total = np.empty_like(mine)
        told = self.comm.Iallreduce(mine, total)
        for part in self._parts:
            part.budget = self.job.mode.max_staleness
        while True:
            self._serve()
            if not self._step_one():
                os.sched_yield()
            if told.Test():
                break
        self._know(int(total[0]))
        return sum((int(total[1 + bit]) > 0) << bit for bit in range(_BITS))

    def quiesce(self) -> None:
        """Come to a tick that all parts have in common, with nothing under way. Collective.

        It is a quiet tick: there Python environments, too, can be brought back.
        """
        if self._quiescent:
            return
        self._finish()
        latest = self.comm.allreduce(max((part.tick for part in self._parts), default=0), MPI.MAX)
        every = self.collector.reset_every
        self._clock = (latest // every + 1) * every
        for part in self._parts:
            part.tick = self._clock - 1
            self._step_part(part)
        self._finish()
        self._know(self.comm.allreduce(self._mine))
        self._quiescent = True

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Go on from the tick that all parts had in common."""
        super().restore_extra(file, header)
        self._clock = header.tick
        for part in self._parts:
            part.tick = header.tick
        self._mine = header.step if self.comm.rank == 0 else 0
        self._know(header.step)

    def _know(self, steps: int) -> None:
        self._known = steps
        self.tick = steps // self.job.environment.count

    def _turn_to(self, part: _Part) -> None:
        """Let the phases of a tick work on one part."""
        self.collector, self.windows = part.collector, part.windows
        self.exchange, self.tick = part.exchange, part.tick

    def _turn_back(self) -> None:
        self.collector, self.windows, self.exchange = self._all

    def _step_one(self) -> bool:
        """Step the next part that is ready to; return whether there is one."""
        for _ in self._parts:
            part = self._parts[self._next]
            self._next = (self._next + 1) % len(self._parts)
            if part.budget > 0 and self._is_ready(part):
                part.budget -= 1
                self._step_part(part)
                return True
        return False

    def _step_part(self, part: _Part) -> None:
        part.tick += 1
        self._turn_to(part)
        self._step()
        self._mine += part.collector.stream_ids.size
        self._ask(part)

    def _is_ready(self, part: _Part) -> bool:
        """Return whether a part has all its replies; take them."""
        if part.waiting and part.exchange.test():
            part.waiting = False
            self._turn_to(part)
            self._receive()
        return not part.waiting

    def _finish(self) -> None:
        """Serve until every part of every rank has its replies. Collective."""
        while not all([self._is_ready(part) for part in self._parts]):
            self._serve()
        everybody = self.comm.Ibarrier()
        while not everybody.Test():
            self._serve()
        self._turn_back()

    def _ask(self, part: _Part) -> None:
        """Send the messages of a part to their owners."""
        self._pack()
        part.exchange.isend()
        part.waiting = True

    def _serve(self) -> None:
        self._server.serve()

    def _serve_records(
        self, records: NDArray, updates: int, queries: int, replies: NDArray
    ) -> None:
        """Apply updates, then answer queries, as the owner of their states."""
        before, server = self.exchange, self._all[2]
        self._desk_counts[0, UPDATES], self._desk_counts[0, QUERIES] = updates, queries
        server.inbox = Inbox(
            records, records, self._desk_is_far, self._desk_start, self._desk_counts
        )
        server.replies = Replies(replies, replies, self._desk_start)
        self.exchange = server
        self._apply()
        self._answer()
        self.exchange = before

    def close(self) -> None:
        """Release environments."""
        self._server.close()
        super().close()
