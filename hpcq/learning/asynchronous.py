"""Asynchronous mode: no rank waits for a slower one.

The environments of a rank are cut into parts. A part steps, sends each owner one request (its
updates, then its queries) and goes on when all owners have replied; meanwhile the other parts step.
An owner answers requests as they arrive. So ranks bootstrap from slightly stale values, and the
result differs from run to run.

The ranks of one node ask through its shared memory (exchange/mailboxes.py): compiled environments
step, ask and answer in one kernel (round_kernel.py), beside Python environments a thread answers
(answering.py). Ranks of several nodes send messages (exchange/requests.py) and answer between parts
and between the steps of Python environments.

Every request has a reply, so that a rank whose parts all have theirs has nothing in flight; when
all ranks say so (a non-blocking barrier), nothing is in flight anywhere: there the run can be
saved, or end.

Steps and flags are summed over the ranks in rounds, one after the other, without waiting. Within
one round no part takes more than `mode.max_staleness` ticks.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
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
from hpcq.exchange.base import Exchange, RequestingExchange
from hpcq.exchange.mailboxes import MailboxExchange, make_mailboxes
from hpcq.exchange.requests import RequestExchange
from hpcq.fields import Field
from hpcq.job.job import Job
from hpcq.learning import saved_state
from hpcq.learning.actor import Actor
from hpcq.learning.answering import MailboxServer, MessageServer
from hpcq.learning.learner import Learner
from hpcq.learning.owner import Owner
from hpcq.learning.parts import Part
from hpcq.learning.rounds import Rounds
from hpcq.learning.stopwatch import Stopwatch
from hpcq.learning.tick import NO_LIMIT, PAUSE, PAUSE_NS
from hpcq.mpi import let_sleeps_end_in_time, wait_until

# Flags that a reduction can sum up.
_FLAGS = 8

# Compiled environments of a part, where there are as many.
LEAST_IN_PART = 256


def _given(exchange: Exchange, *_: Any) -> Exchange:
    return exchange


class AsynchronousLearner(Learner):
    """A learner that goes from round to round, not from tick to tick.

    `advance` ends with a round, and `tick` is the number of ticks that the steps of all ranks
    together are worth.

    Parameters
    ----------
    flat
        send messages, even where the ranks share a node.
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
        flat: bool = False,
    ) -> None:
        super().__init__(job, environment, comm)
        self.owner = Owner(self.algorithm, self.shard)
        self.stopwatch = Stopwatch()
        algorithm = self.algorithm
        self.windows = make_windows(self.count, algorithm.steps, algorithm.mask_words)
        unit, parts = job.environment.vector or 1, self._part_count(flat)
        blocks = [block(number, parts, self.count, unit) for number in range(parts)]
        collectors = [self._collect(self.start + at, count) for at, count in blocks]
        self.collector = PartitionedCollector(collectors)
        self._compiled = collectors[0].step_kernel is not None
        self._server, exchanges = self._connect(collectors, flat)
        self._parts: list[Part] = []
        for (start, count), collector, exchange in zip(blocks, collectors, exchanges, strict=True):
            windows = view_of(self.windows, slice(start, start + count))
            environments = job.environment.count
            make = partial(_given, exchange)
            actor = Actor(
                self.algorithm, collector, self._seed, environments, make, windows, self.centre
            )
            self._parts.append(Part(actor, exchange))
        self._next_part = self._own_steps = self._total_steps = self._saved_tick = 0
        self._tick = -1
        self._last_traffic = 0, 0
        self._quiescent = False
        self._rounds = None
        if self._compiled and isinstance(self._server, MailboxServer):
            self._rounds = Rounds(self._parts, self.owner, self._server, job)

    def _part_count(self, flat: bool) -> int:
        """Return in how many parts the environments of every rank step."""
        most = self.job.mode.parts
        if flat or not isinstance(self.environment, CompiledEnvironment):
            return most
        # A smaller part takes less time than its request.
        return max(1, min(most, self.job.environment.count // self.comm.size // LEAST_IN_PART))

    def _connect(
        self, collectors: list[Collector], flat: bool
    ) -> tuple[MailboxServer | MessageServer, list[RequestingExchange]]:
        """Return what answers requests, and what sends those of each part. Collective."""
        types, each = self.algorithm.record_types(), self.algorithm.steps + 2
        sizes = [collector.stream_ids.size for collector in collectors]
        largest = max(sizes)
        boxes = None
        if not flat:
            boxes = make_mailboxes(self.comm, len(sizes), *types, each * largest, 2 * largest)
        if boxes is not None:
            server = MailboxServer(self.owner, boxes, types[1], threaded=not self._compiled)
            return server, [
                MailboxExchange(self.comm, boxes, part, server.bell, *types, server.own_messages)
                for part in range(len(sizes))
            ]
        let_sleeps_end_in_time()
        sender = MessageServer(self.comm, *types, self.owner)
        for collector in collectors:
            if isinstance(collector, PythonCollector):
                collector.call_between(sender.serve)
        return sender, [
            RequestExchange(sender, part, each * size, 2 * size) for part, size in enumerate(sizes)
        ]

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
    def ticks_to_quiesce(self) -> int:
        """Every part steps once more, to the tick that all come to."""
        return 1

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        return 2 * self.job.mode.max_staleness + 1

    def received(self) -> int:
        """Return the updates and queries of the last request to this rank."""
        return self._server.received()

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others since the last call."""
        messages, nbytes = self._last_traffic
        self._last_traffic = self._server.messages, self._server.nbytes
        return self._server.messages - messages, self._server.nbytes - nbytes

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        return None if self._rounds is None else self._rounds.stepping

    def begin(self) -> None:
        """Reset every environment and choose the first actions. Collective."""
        self._tick = 0
        self._server.start()
        for part in self._parts:
            part.actor.collector.begin()
            part.ask()
        self._finish()

    def advance(
        self,
        flags: int = 0,
        last: int = 0,
        most_rows: int = NO_LIMIT,
        full: int = 0,
        cut: bool = False,
    ) -> int:
        """Go on until all together have done a tick's worth of steps, or more. Collective."""
        agreed, count = 0, self.job.environment.count
        goal = max(last, self._total_steps // count + 1)
        self._quiescent = False
        if self._rounds is not None:
            self._own_steps, agreed = self._rounds.run(
                self._own_steps, goal, last or NO_LIMIT, flags, most_rows, full
            )
            self._set_steps(self._rounds.total_steps)
            return agreed
        until = time.monotonic_ns() + PAUSE_NS
        while self._total_steps // count < goal and not agreed:
            # What a rank asks for is looked at between calls: the first one ends long ones.
            late = self.comm.rank == 0 and time.monotonic_ns() > until
            agreed = self._round(last or NO_LIMIT, flags | (PAUSE if late else 0))
        return agreed & ~PAUSE

    def _round(self, horizon: int, flags: int) -> int:
        """Step until steps and flags of all ranks are summed up; return the flags. Collective."""
        mine = np.array([self._own_steps, *((flags >> bit) & 1 for bit in range(_FLAGS))], np.int64)
        total = np.empty_like(mine)
        reduction = self.comm.Iallreduce(mine, total)
        # The last sum lacks what parts did while it was made.
        left = max(1, horizon - self._tick)
        for part in self._parts:
            budget = min(self.job.mode.max_staleness, left - part.ahead)
            part.budget, part.ahead = budget if part.size else 0, 0
        while True:
            heard = self._server.hear()
            if self._server.serve() + self._step_one() == 0:
                self._server.listen(heard)
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
            part.budget = part.ahead = 0
            self._step(part)
        self._finish()
        self._set_steps(self.comm.allreduce(self._own_steps))
        self._quiescent = True

    def environment_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what is saved of every environment of this rank, in the order of these: views."""
        return saved_state.arrays(self.algorithm, self.collector.batch, self.windows, None)

    def load_environments(self, read: Callable[[Field], NDArray]) -> None:
        """Take what was saved of the environments of this rank, as `read` returns it."""
        for field, array in self.environment_arrays():
            array[:] = read(field)

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Go on from the tick that all parts had in common."""
        super().restore_extra(file, header)
        self._server.start()
        self._saved_tick = header.tick
        for part in self._parts:
            part.tick = header.tick
        self._own_steps = header.step if self.comm.rank == 0 else 0
        self._set_steps(header.step)

    def _set_steps(self, steps: int) -> None:
        self._total_steps = steps
        self._server.set_steps(steps)
        self._tick = steps // self.job.environment.count

    def _step_one(self) -> bool:
        """Step the next part that is ready to; return whether there is one."""
        for _ in self._parts:
            part = self._parts[self._next_part]
            self._next_part = (self._next_part + 1) % len(self._parts)
            if part.budget > 0 and part.ready():
                part.budget -= 1
                part.ahead += 1
                self._step(part)
                return True
        return False

    def _step(self, part: Part) -> None:
        part.tick += 1
        part.actor.step(part.tick)
        self._own_steps += part.size
        part.ask()

    def _finish(self) -> None:
        """Serve until every part of every rank has its replies. Collective."""
        self._serve_until(lambda: all([part.ready() for part in self._parts]))
        self._serve_until(self.comm.Ibarrier().Test)

    def _serve_until(self, done: Callable[[], bool]) -> None:
        wait_until(lambda: self._server.serve() >= 0 and done())

    def close(self) -> None:
        """Release environments, and wait until the last replies are sent. Collective."""
        self._server.close()
        self.collector.close()

    def abandon(self) -> None:
        """End the thread that answers, however the training ends; not collective."""
        self._server.stop()
