"""Asynchronous mode: no rank waits for a slower one.

The environments of a rank are cut into parts. A part steps, sends each owner one request (its
updates, then its queries; see exchange/requests.py) and goes on when all owners have replied;
meanwhile the other parts step. An owner answers requests as they arrive: between parts, and between
the steps of Python environments. So ranks bootstrap from slightly stale values, and the result
differs from run to run.

Every request has a reply, so that a rank whose parts all have theirs has nothing in flight; when
all ranks say so (a non-blocking barrier), nothing is in flight anywhere: there the run can be
saved, or end.

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
from hpcq.collectors.history import make_windows
from hpcq.collectors.partitioned import PartitionedCollector
from hpcq.collectors.python import PythonCollector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.exchange.base import COLUMNS, QUERIES, UPDATES, Inbox, Replies
from hpcq.exchange.requests import RequestExchange, RequestServer
from hpcq.job.job import Job
from hpcq.learning.actor import Actor
from hpcq.learning.learner import Learner
from hpcq.learning.owner import Owner
from hpcq.learning.stopwatch import Stopwatch
from hpcq.learning.tick import NO_LIMIT

# Flags that a reduction can sum up.
_FLAGS = 8


class _Part:
    """Some environments of a rank, with requests of their own."""

    def __init__(self, actor: Actor, exchange: RequestExchange) -> None:
        self.actor, self.exchange = actor, exchange
        self.tick = 0
        self.budget = 0
        """ticks that it may still take in this round"""
        self.waiting = False

    def ask(self) -> None:
        """Send updates and queries to their owners."""
        self.actor.pack(self.tick)
        self.exchange.isend()
        self.waiting = True

    def ready(self) -> bool:
        """Return whether all replies have come; take them."""
        if self.waiting and self.exchange.test():
            self.waiting = False
            self.actor.receive()
        return not self.waiting


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
        super().__init__(job, environment, comm)
        algorithm = self.algorithm
        self.owner = Owner(algorithm, self.shard)
        self.stopwatch, self.replay = Stopwatch(), None
        types = algorithm.record_types()
        self._server = RequestServer(comm, *types, self._serve_records)
        self.windows = make_windows(self.count, algorithm.steps)
        collectors = self._collectors()
        self.collector = (
            PartitionedCollector(collectors) if collectors else self._collect(self.start, 0)
        )
        self._parts: list[_Part] = []
        start = 0
        for number, collector in enumerate(collectors):
            size = collector.stream_ids.size
            windows = view_of(self.windows, slice(start, start + size))
            exchange = RequestExchange(self._server, number, (algorithm.steps + 2) * size, 2 * size)
            environments = job.environment.count
            actor = Actor(
                algorithm, collector, self._seed, environments, lambda *_, e=exchange: e, windows
            )
            self._parts.append(_Part(actor, exchange))
            start += size
        self._counts = np.zeros((1, COLUMNS), np.int64)
        self._is_remote, self._starts = np.zeros(1, np.bool_), np.zeros(1, np.int64)
        self._next_part = self._own_steps = self._total_steps = self._saved_tick = 0
        self._tick = -1
        self._last_traffic = 0, 0
        self._quiescent = False

    def _collectors(self) -> list[Collector]:
        """Return a collector for each part that has environments."""
        unit, parts = self.job.environment.vector or 1, self.job.mode.parts
        blocks = [block(i, parts, self.count, unit) for i in range(parts)]
        found = [self._collect(self.start + at, count) for at, count in blocks if count]
        for collector in found:
            if isinstance(collector, PythonCollector):
                collector.call_between(self._serve)
        return found

    @property
    def tick(self) -> int:
        """Ticks that the steps of all ranks together are worth, as of the last round."""
        return self._tick

    @tick.setter
    def tick(self, tick: int) -> None:
        self._tick = tick

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks, as of the last round."""
        return self._total_steps

    @property
    def saved_tick(self) -> int:
        """The tick that all parts of all ranks have in common when they are quiescent."""
        return self._saved_tick

    @property
    def save_every(self) -> int:
        """The run can be saved at any time: `quiesce` makes a reset tick."""
        return 1

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        return 2 * self.job.mode.max_staleness + 1

    def received(self) -> int:
        """Return the updates and queries of the last request to this rank."""
        return int(self._counts[0, UPDATES] + self._counts[0, QUERIES])

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others since the last call."""
        messages, nbytes = self._last_traffic
        self._last_traffic = self._server.messages, self._server.nbytes
        return self._server.messages - messages, self._server.nbytes - nbytes

    def begin(self) -> None:
        """Reset every environment and choose the first actions. Collective."""
        self._tick = 0
        for part in self._parts:
            part.actor.collector.begin()
            part.ask()
        self._finish()

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Go on until all together have done a tick's worth of steps, or more. Collective."""
        agreed, before = 0, self._total_steps // self.job.environment.count
        while self._total_steps // self.job.environment.count == before:
            agreed |= self._round(flags)
        return agreed

    def _round(self, flags: int) -> int:
        """Step until steps and flags of all ranks are summed up; return the flags. Collective."""
        self._quiescent = False
        mine = np.array([self._own_steps, *((flags >> bit) & 1 for bit in range(_FLAGS))], np.int64)
        total = np.empty_like(mine)
        reduction = self.comm.Iallreduce(mine, total)
        for part in self._parts:
            part.budget = self.job.mode.max_staleness
        while True:
            self._serve()
            if not self._step_one():
                os.sched_yield()
            if reduction.Test():
                break
        self._set_steps(int(total[0]))
        return sum((int(total[1 + bit]) > 0) << bit for bit in range(_FLAGS))

    def quiesce(self) -> None:
        """Come to a tick that all parts have in common, with nothing in flight. Collective.

        It is a reset tick: there Python environments, too, can be brought back.
        """
        if self._quiescent:
            return
        self._finish()
        latest = self.comm.allreduce(max((part.tick for part in self._parts), default=0), MPI.MAX)
        every = self.collector.reset_every
        self._saved_tick = (latest // every + 1) * every
        for part in self._parts:
            part.tick = self._saved_tick - 1
            self._step(part)
        self._finish()
        self._set_steps(self.comm.allreduce(self._own_steps))
        self._quiescent = True

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Go on from the tick that all parts had in common."""
        super().restore_extra(file, header)
        self._saved_tick = header.tick
        for part in self._parts:
            part.tick = header.tick
        self._own_steps = header.step if self.comm.rank == 0 else 0
        self._set_steps(header.step)

    def _set_steps(self, steps: int) -> None:
        self._total_steps = steps
        self._tick = steps // self.job.environment.count

    def _step_one(self) -> bool:
        """Step the next part that is ready to; return whether there is one."""
        for _ in self._parts:
            part = self._parts[self._next_part]
            self._next_part = (self._next_part + 1) % len(self._parts)
            if part.budget > 0 and part.ready():
                part.budget -= 1
                self._step(part)
                return True
        return False

    def _step(self, part: _Part) -> None:
        part.tick += 1
        part.actor.step(part.tick)
        self._own_steps += part.actor.collector.stream_ids.size
        part.ask()

    def _finish(self) -> None:
        """Serve until every part of every rank has its replies. Collective."""
        while not all([part.ready() for part in self._parts]):
            self._serve()
        everybody = self.comm.Ibarrier()
        while not everybody.Test():
            self._serve()

    def _serve(self) -> None:
        self._server.serve()

    def _serve_records(
        self, records: NDArray, updates: int, queries: int, replies: NDArray
    ) -> None:
        """Apply updates, then answer queries, as the owner of their states."""
        self._counts[0, UPDATES], self._counts[0, QUERIES] = updates, queries
        inbox = Inbox(records, records, self._is_remote, self._starts, self._counts)
        out = Replies(replies, replies, self._starts)
        self.owner.apply(inbox, out, self.steps)
        self.owner.answer(inbox, out, self.steps)

    def close(self) -> None:
        """Release environments, and wait until the last replies are sent. Collective."""
        self._server.close()
        self.collector.close()
