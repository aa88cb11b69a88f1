"""Periodic mode: every rank learns on rows of its own; every so many ticks all are merged.

Between merges nothing is sent. A rank reads and updates its local copies of rows. At a merge the
owner of (s, a) replaces its value by the weighted mean of what the P ranks have made of it,

    Q(s, a) = sum_k w_k Q_k(s, a) / sum_k w_k,     w_k = (1 - eta) ** -N_k(s, a)

N_k being the updates of (s, a) by rank k since the last merge and eta the learning rate: Woo,
Joshi, Chi, "The Blessing of Heterogeneity in Federated Q-Learning: Linear Speedup and Beyond",
JMLR 26(26), 2025, importance averaging. A rank that has not updated it counts with N_k = 0 and the
value of the last merge. Equal averaging, w_k = 1, loses what few ranks see among many that do not.

A state that a rank has not met before reads as q_init there until the next merge, which brings it
the owner's value. The rank's updates since then are re-based from q_init onto the owner's value: an
update is linear in the value it starts from.

Where the policy uses visit counts, the owner sums them over the ranks and a merge brings the sum to
the local rows: between merges a rank sees its own updates on top of it.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import CheckpointError
from hpcq.exchange import make_exchange
from hpcq.exchange.alltoallv import AlltoallvExchange
from hpcq.exchange.base import QUERIES, REPLIES_AT, START, UPDATES
from hpcq.fields import Field
from hpcq.hashing import first_hash, hashes_of
from hpcq.job.job import Job
from hpcq.learning import periodic_kernels, saved_state
from hpcq.learning.lockstep import TickingLearner
from hpcq.learning.meeting import Meeting
from hpcq.learning.tick import NO_LIMIT, KernelTicks
from hpcq.table.shard import Shard

# A rate of 1 forgets all that was before; its weight stays a number.
_MOST_RATE = 1.0 - 2.0**-53

# Larger buffers are given back after each merge.
_KEPT_BYTES = 16 << 20


def record_types(columns: int, visits: bool, mask_words: int) -> tuple[np.dtype, np.dtype]:
    """Return what a rank sends of a row at a merge, and what it gets back."""
    counts = columns if visits else 0
    words = periodic_kernels.COLUMNS + 2 * columns + mask_words
    return (
        np.dtype([("words", "u8", (words,))]),
        np.dtype([("values", "f8", (columns,)), ("visits", "u8", (counts,))]),
    )


class PeriodicLearner(TickingLearner):
    """A learner whose ranks tick by themselves, on `rows`, and merge into `shard`.

    A tick sends nothing; `advance` is collective at merges, and where ranks meet before one since
    any of them has flags (meeting.py).
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
    ) -> None:
        super().__init__(job, environment, comm)
        rows = self.algorithm.make_shard(1, visits=True)
        make_rows = periodic_kernels.ensure_rows
        self._tick_on(rows, partial(make_exchange, MPI.COMM_SELF), False, make_rows)
        # Hashes of the rows that the last merge brought, ascending, and their visit counts then.
        self._held = np.empty(0, np.uint64)
        self._counted = np.empty((0, self.rows.columns), np.uint32)
        self._merges: AlltoallvExchange | None = None
        self._traffic = 0, 0
        # Compiled ticks are over before anybody could ask for a meeting.
        stepped_here = self.collector.step_kernel is None
        self._meeting = Meeting(comm) if stepped_here and comm.size > 1 else None

    @property
    def save_every(self) -> int:
        """The run can be saved at merges that are reset ticks, too."""
        return math.lcm(self.job.mode.merge_every, self.collector.reset_every)

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        # Requests are heard at merges, at the latest.
        merge = self.job.mode.merge_every
        most = merge + 1 if self.job.run.cut_episodes else self.save_every
        return min(self.save_every, most) + merge

    @property
    def look_every(self) -> int:
        """The whole table can be looked at after merges."""
        return self.job.mode.merge_every

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The rank's own rows, and its copies."""
        return self.shard, self.rows

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        return self._traffic

    def begin(self) -> None:
        """Reset every environment: tick 0. Collective."""
        super().begin()
        self._ensure_rows()
        self._merge(0)

    def advance(
        self,
        flags: int = 0,
        last: int = 0,
        most_rows: int = NO_LIMIT,
        full: int = 0,
        cut: bool = False,
    ) -> int:
        """Do ticks up to `last`, a merge or a meeting; return the flags of all there. Collective.

        A tick that cuts ends with a merge, whatever its number.
        """
        every, agreed = self.job.mode.merge_every, 0
        merge = (self.tick // every + 1) * every
        goal = min(last, merge) if last else merge
        self._tick_to(goal if last else self.tick + 1, cut)
        if not cut and (self.tick == goal or flags or self._is_called()):
            goal, agreed = self._meet(flags)
            while self.tick < goal:
                self._tick_to(goal)
        if cut or self.tick % every == 0:
            return agreed | self._merge(flags)
        self._traffic = 0, 0
        return agreed

    def _tick_to(self, last: int, cut: bool = False) -> None:
        super().advance(0, last, cut=cut)
        self._ensure_rows()

    def _is_called(self) -> bool:
        return self._meeting is not None and self._meeting.is_called()

    def _meet(self, flags: int) -> tuple[int, int]:
        """Return the tick that the first of the ranks has come to, and the flags of all."""
        if self._meeting is None:
            return self.tick, flags if self.comm.size == 1 else 0
        return self._meeting.meet(self.tick, flags)

    def _ensure_rows(self) -> None:
        """Make a local row for every state that has just been read, if the tick did not."""
        if isinstance(self._ticks, KernelTicks):
            return
        batch, done = self.collector.batch, 0
        while (
            done := periodic_kernels.ensure_rows(self.rows.table, batch, done)
        ) < batch.hash.size:
            self.rows.grow()

    def _merge(self, flags: int) -> int:
        """Merge all ranks' rows at their owners, and take the result. Collective."""
        rows, exchange = len(self.rows), self._exchange_of(len(self.rows))
        words = exchange.outbox["words"][:rows]
        counted = self._counted if self.algorithm.visits else self._counted[:, :0]
        periodic_kernels.write_records(
            self.rows.table, self._held, counted, words, words.view(np.float64)
        )
        self._held = words[:, periodic_kernels.HASH].copy()
        # Rows are sorted by hash, hence grouped by owner, too.
        firsts = [first_hash(rank, self.comm.size) for rank in range(1, self.comm.size)]
        starts = np.searchsorted(self._held, np.array(firsts, np.uint64))
        exchange.sent[:, UPDATES] = 0
        exchange.sent[:, START] = exchange.sent[:, REPLIES_AT] = [0, *starts]
        exchange.sent[:, QUERIES] = np.diff([0, *starts, rows])
        agreed = exchange.send(flags)
        received = int(exchange.inbox.counts[:, QUERIES].sum())
        words = exchange.inbox.remote["words"][:received]
        self._merge_records(words)
        replies = exchange.replies.remote
        periodic_kernels.read_values(self.shard.table, words, replies["values"], replies["visits"])
        exchange.reply()
        merged = exchange.replies_in[:rows]
        self._counted = periodic_kernels.countable(merged["visits"])
        periodic_kernels.load_values(self.rows.table, merged["values"], self._counted)
        self._traffic = exchange.network_messages(), exchange.bytes_sent_elsewhere()
        if exchange.outbox.nbytes > _KEPT_BYTES:
            self._free_exchange()
        return agreed

    def _free_exchange(self) -> None:
        if self._merges is not None:
            self._merges.free()
        self._merges = None

    def _exchange_of(self, rows: int) -> AlltoallvExchange:
        """Return an exchange with room for the records of so many rows."""
        if self._merges is None or rows > self._merges.outbox.size:
            self._free_exchange()
            algorithm = self.algorithm
            records = record_types(self.rows.columns, algorithm.visits, algorithm.mask_words)
            room = rows + rows // 4
            self._merges = AlltoallvExchange(self.comm, *records, room, room)
        return self._merges

    def _merge_records(self, words: NDArray[np.uint64]) -> None:
        rate = self.job.learning.learning_rate.at(self.steps)
        decay = -math.log1p(-min(rate, _MOST_RATE))
        order = np.argsort(words[:, periodic_kernels.HASH], kind="stable")
        importance = self.job.mode.averaging == "importance"
        values, done = words.view(np.float64), 0
        while True:
            done = periodic_kernels.merge(
                self.shard.table, words, values, order, done, self.comm.size, decay, importance
            )
            if done == order.size:
                return
            self.shard.grow()

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return also the states that this rank holds copies of; `restore_extra` reads them."""
        copies = np.array([self._held.size], np.uint64), self._held
        return super().saved_arrays() + list(zip(saved_state.COPY_FIELDS, copies, strict=True))

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Bring the copies back, without their values.

        Raises
        ------
        CheckpointError
            if the run was saved by another number of ranks, or in another mode.
        """
        super().restore_extra(file, header)
        none = np.empty(0, np.uint64)
        counts = (file["local/count"][:] if "local/count" in file else none).astype(np.int64)
        if len(counts) != self.comm.size:
            raise CheckpointError(
                f"a run in periodic mode goes on with as many ranks as it was saved on: "
                f"{header.ranks}, not {self.comm.size}"
            )
        start = int(counts[: self.comm.rank].sum())
        self._held = hashes_of(file["local/key"][start : start + int(counts[self.comm.rank])])
        nothing = np.zeros((self._held.size, self.rows.columns), np.uint32)
        masks = np.zeros((self._held.size, self.algorithm.mask_words), np.uint64)
        self.rows.load(self._held, nothing.astype(self.rows.dtype), nothing, masks)
        self._counted = nothing

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        super().close()
        self._free_exchange()
        if self._meeting is not None:
            self._meeting.free()

    def restored(self) -> None:
        """Fetch the values of the copies from their owners. Collective."""
        self._merge(0)
