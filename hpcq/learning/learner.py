"""The lockstep tick: step, send, apply and answer, reply, receive.

Every rank runs the same ticks at the same time. At the owner, the updates of the last tick are
applied in environment order before the queries of this one are answered, so the table after
tick t is a function of the job alone, whatever the number of ranks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, block
from hpcq.collectors.factory import make_collector
from hpcq.collectors.history import make_windows
from hpcq.collectors.messages import CURSORS
from hpcq.collectors.replay import Replay
from hpcq.envs import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.exchange import make_exchange
from hpcq.exchange.base import Exchange
from hpcq.exchange.records import record_types
from hpcq.fields import Field
from hpcq.job.job import Job
from hpcq.learning import saved_state
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.owner import Owner
from hpcq.learning.progress import Progress
from hpcq.learning.stopwatch import Stopwatch
from hpcq.rng import seed_word
from hpcq.table.digest import Digest, digest_pieces
from hpcq.table.shard import Shard

ROWS_PER_PIECE = 1 << 16


class Learner:
    """One rank's part of the job: its environments, its shard, and the tick that joins all.

    Parameters
    ----------
    job
        the same on every rank.
    environment
        from `envs.resolve`.
    comm
        the ranks that share the table; its size and this rank's place shape nothing but who
        holds what.
    route
        makes the exchange: how messages travel shapes nothing either.
    among
        the ranks that answer each other in every tick; default: all of `comm`.
    shard
        rows of another learner of the same rank, to be read; default: new ones.

    Attributes
    ----------
    tick : int
        ticks done; -1 before `begin`
    method : Method
    shard : Shard
        the rows that this rank owns
    rows : Shard
        the rows that ticks read and update: the shard, but for modes that keep others
    service : Service
        what this rank does for all with these rows
    collector : Collector
    replay : Replay or None
    windows : Windows
        of returns of several steps
    progress : Progress
        what decides when the run ends
    stopwatch : Stopwatch
        how long the phases of a tick take on this rank
    """

    counts_updates = False
    """whether `rows` counts updates, also where the learning rate does not need it"""

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
        route: Callable[..., Exchange] = make_exchange,
        among: MPI.Intracomm | None = None,
        shard: Shard | None = None,
    ) -> None:
        among = among or comm
        self.job = job
        self.environment = environment
        self.comm = comm
        self.tick = -1
        self.progress = Progress()
        self.stopwatch = Stopwatch()
        self.algorithm = algorithm = Algorithm.of(job, environment)
        seed = seed_word(job.run.seed)
        unit = job.environment.vector or 1
        self.start, count = block(comm.rank, comm.size, job.environment.count, unit)
        self.collector = self.collect(self.start, count)
        self.replay = None
        if job.replay.ratio:
            total = job.environment.count
            self.replay = Replay(job.replay, self.collector, seed, total, algorithm.masked)
            # Of messages there are as many as if there were so many environments.
            count *= 1 + job.replay.ratio
        self.windows = make_windows(count, algorithm.steps)
        self._discount = algorithm.sign * job.learning.gamma
        if shard is None:
            shard = self._make_shard(among.size)
        self.shard = self.rows = shard
        self.owner = Owner(job, algorithm, self.rows)
        self._messages = algorithm.message_kernels()
        message, reply = record_types(self.shard.dtype, algorithm.masked, algorithm.weighted)
        updates, queries = algorithm.steps * count, 2 * count
        replies = queries + (updates if algorithm.weighted else 0)
        self.exchange = route(among, message, reply, updates + queries, replies)
        self._cursors = np.zeros((CURSORS, among.size), np.uint64)
        self._ranks = np.uint64(among.size)
        self._seed = seed
        self._flags = self._agreed = 0
        self._phases = (
            ("step", self._step),
            ("pack", self._pack),
            ("exchange", self._send),
            ("apply", self._apply),
            ("answer", self._answer),
            ("exchange", self.exchange.reply),
            ("receive", self._receive),
        )

    def _make_shard(self, ranks: int) -> Shard:
        learning, algorithm = self.job.learning, self.algorithm
        return Shard(
            ranks,
            algorithm.columns,
            np.dtype(learning.dtype),
            learning.q_init,
            visits=algorithm.visits or self.counts_updates,
            masks=algorithm.masked,
        )

    def collect(self, start: int, count: int) -> Collector:
        """Return the collector of the environments `start` ... `start + count - 1`."""
        reset_every = self.job.environment.reset_every
        seed = seed_word(self.job.run.seed)
        return make_collector(self.environment, seed, start, count, reset_every)

    @property
    def clock(self) -> int:
        """The tick that a checkpoint is of."""
        return self.tick

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        return self.reset_every

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks."""
        return max(0, self.tick) * self.job.environment.count

    @property
    def exploration(self) -> dict[str, float]:
        """The policy's parameter at this step, by its key in the job; empty where it has none."""
        key = self.algorithm.policy.parameter
        return {} if key is None else {key: getattr(self.job.exploration, key).at(self.steps)}

    @property
    def reset_every(self) -> int:
        """The job can be saved after ticks that are multiples of this."""
        return self.collector.reset_every

    @property
    def tables(self) -> tuple[Shard, ...]:
        """All rows that this rank holds in memory."""
        return (self.shard,)

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        return self.exchange.network_messages(), self.exchange.bytes_sent_elsewhere()

    def environment_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what is saved of every environment of this rank: views, also to be filled."""
        return saved_state.arrays(self.algorithm, self.collector.batch, self.windows, self.replay)

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return all that a checkpoint holds of this rank beside its table."""
        return self.environment_arrays()

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Go on from a checkpoint whose `environment_arrays` and progress have been read.

        Raises
        ------
        CheckpointError
            if the file is of another number of ranks or of another mode, and that matters.
        """
        if self.replay is not None:
            self.replay.restored()

    def restored(self) -> None:
        """Do what is left to do once all ranks are back. Collective."""

    def quiesce(self) -> None:
        """Come to a tick at which the run can be saved, where it is not at one. Collective."""

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = 0
        self.collector.begin()
        for _, phase in self.phases[1:]:
            phase()

    def advance(self, flags: int = 0) -> int:
        """Do one tick; return the flags of all ranks, or-ed. Collective."""
        self.tick += 1
        self._flags = flags
        self.stopwatch.run(self.tick, self.phases)
        return self._agreed

    @property
    def phases(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """The parts of a tick in their order, with the names under which time is reported."""
        return self._phases

    def _step(self) -> None:
        self.collector.step(self.tick)
        if self.replay is not None:
            self.replay.step(self.tick)

    def _pack(self) -> None:
        senders = self.replay or self.collector
        self._messages.pack(
            senders.batch,
            self.windows,
            senders.stream_ids,
            self._seed,
            self.tick,
            self._ranks,
            self.exchange.sent,
            self.exchange.outbox,
            self._cursors,
        )

    def _send(self) -> None:
        self._agreed = self.exchange.send(self._flags)

    def _apply(self) -> None:
        self.owner.apply(self.exchange.inbox, self.exchange.replies, self.steps)

    def _answer(self) -> None:
        self.owner.answer(self.exchange.inbox, self.exchange.replies, self.steps)

    def _receive(self) -> None:
        if self.replay is not None:
            self.replay.take_acks(
                self._ranks, self.exchange.sent, self.exchange.replies_in, self._cursors
            )
        self._messages.receive(
            (self.replay or self.collector).batch,
            self.windows,
            self._discount,
            self.job.learning.trace_decay,
            self._ranks,
            self.exchange.sent,
            self.exchange.replies_in,
            self._cursors,
        )

    def drop_updates(self) -> None:
        """Forget what would become updates: nothing is learned from the ticks so far."""
        self.collector.batch.update_pending[:] = False
        self.windows.length[:] = 0
        self.windows.due[:] = 0

    def digest(self) -> Digest:
        """Return the digest of the whole table. Collective."""
        return total_digest(self.comm, digest_pieces(self.shard.pieces(ROWS_PER_PIECE)))

    def close(self) -> None:
        """Release environments and MPI datatypes."""
        self.collector.close()
        self.exchange.free()


def total_digest(comm: MPI.Intracomm, local: Digest) -> Digest:
    """Return the digest of all ranks' rows together. Collective."""
    sums = np.array(local, np.uint64)
    comm.Allreduce(MPI.IN_PLACE, sums, MPI.SUM)
    return Digest(*(int(value) for value in sums))
