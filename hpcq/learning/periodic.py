"""Periodic mode: agents learn on tables of their own; every so many ticks all are merged.

Each agent has a part of the environments, and a rank holds some of the agents: what is learned
depends on their number, `mode.agents`, and not on the ranks'. Between merges nothing is sent. An
agent reads and updates its copies of rows. At a merge the owner of (s, a) replaces its value by the
weighted mean of what the A agents have made of it,

    Q(s, a) = sum_k w_k Q_k(s, a) / sum_k w_k,     w_k = (1 - eta) ** -N_k(s, a)

N_k being the updates of (s, a) by agent k since the last merge and eta the learning rate: Woo,
Joshi, Chi, "The Blessing of Heterogeneity in Federated Q-Learning: Linear Speedup and Beyond",
JMLR 26(26), 2025, importance averaging. An agent that has not updated it counts with N_k = 0 and
the value of the last merge. Equal averaging, w_k = 1, loses what few agents see among many that do
not.

A state that an agent has not met before reads as q_init there until the next merge, which brings it
the owner's value. The agent's updates since then are re-based from q_init onto the owner's value:
an update is linear in the value it starts from.

Where the policy uses visit counts, the owner sums them over the agents and a merge brings the sum
to their rows: between merges an agent sees its own updates on top of it.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.collectors.base import block
from hpcq.collectors.partitioned import PartitionedCollector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import CheckpointError
from hpcq.exchange.alltoallv import AlltoallvExchange
from hpcq.exchange.base import QUERIES, REPLIES_AT, START, UPDATES
from hpcq.fields import Field
from hpcq.hashing import first_hash
from hpcq.job.job import Job
from hpcq.learning import periodic_kernels, saved_state
from hpcq.learning.agent import Agent
from hpcq.learning.learner import Learner
from hpcq.learning.meeting import Meeting
from hpcq.learning.tick import NO_LIMIT
from hpcq.table.shard import Shard

# A rate of 1 forgets all that was before; its weight stays a number.
_MOST_RATE = 1.0 - 2.0**-53

# Larger buffers are given back after each merge.
_KEPT_BYTES = 16 << 20


def record_types(columns: int, visits: bool, mask_words: int) -> tuple[np.dtype, np.dtype]:
    """Return what is sent of a row at a merge, and what comes back."""
    counts = columns if visits else 0
    words = periodic_kernels.COLUMNS + 2 * columns + mask_words
    return (
        np.dtype([("words", "u8", (words,))]),
        np.dtype([("values", "f8", (columns,)), ("visits", "u8", (counts,))]),
    )


class PeriodicLearner(Learner):
    """A learner whose agents tick by themselves, on rows of their own, and merge into `shard`.

    A tick sends nothing; `advance` is collective at merges, and where ranks meet before one since
    any of them has flags (meeting.py).

    Attributes
    ----------
    agents : list of Agent
        of this rank; where there are fewer of them than ranks, one without environments
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
    ) -> None:
        super().__init__(job, environment, comm)
        self._agents = job.mode.agents or comm.size
        first, held = block(comm.rank, comm.size, self._agents)
        unit = job.environment.vector or 1
        places = [
            block(agent, self._agents, job.environment.count, unit)
            for agent in range(first, first + held)
        ]
        self._held = held
        self.start = places[0][0] if places else 0
        self.count = sum(count for _, count in places)
        self.agents = [Agent(job, environment, *place) for place in places or [(0, 0)]]
        collectors = [agent.collector for agent in self.agents]
        self.collector = collectors[0] if len(collectors) == 1 else PartitionedCollector(collectors)
        self.stopwatch = self.agents[0].stopwatch
        for agent in self.agents:
            agent.timed_by(self.stopwatch)
        self._merges: AlltoallvExchange | None = None
        self._traffic = 0, 0
        # Compiled ticks are over before anybody could ask for a meeting.
        stepped_here = collectors[0].step_kernel is None
        self._meeting = Meeting(comm) if stepped_here and comm.size > 1 else None

    @property
    def tick(self) -> int:
        """Ticks done; -1 before `begin`."""
        return self.agents[0].tick

    @tick.setter
    def tick(self, tick: int) -> None:
        for agent in self.agents:
            agent.tick = tick

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
        """The rank's own rows, and its agents' copies."""
        return self.shard, *(agent.rows for agent in self.agents)

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        stepping = [agent.stepping for agent in self.agents]
        return None if None in stepping else any(stepping)

    def ended_episodes(self) -> int:
        """Return the episodes that have ended in this rank's environments."""
        return sum(agent.ended_episodes() for agent in self.agents)

    def largest_error(self, reset: bool = False) -> float:
        """Return the largest |TD error| since the last reset; see `Learner.largest_error`."""
        return max(agent.largest_error(reset) for agent in self.agents)

    def received(self) -> int:
        """Return the updates and queries of the last tick."""
        return sum(agent.received() for agent in self.agents)

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        return self._traffic

    def environment_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what is saved of every environment of this rank, in the order of these."""
        parts = [agent.environment_arrays() for agent in self.agents]
        return [
            (columns[0][0], np.concatenate([array for _, array in columns]))
            for columns in zip(*parts, strict=True)
        ]

    def load_environments(self, read: Callable[[Field], NDArray]) -> None:
        """Take what was saved of the environments of this rank, as `read` returns it."""
        once = functools.cache(read)

        def read_from(first: int, count: int) -> Callable[[Field], NDArray]:
            return lambda field: once(field)[first : first + count]

        for agent in self.agents:
            agent.load_environments(read_from(agent.start - self.start, agent.count))

    def begin(self) -> None:
        """Reset every environment: tick 0. Collective."""
        for agent in self.agents:
            agent.begin()
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
        for agent in self.agents:
            agent.advance(0, last, cut=cut)

    def _is_called(self) -> bool:
        return self._meeting is not None and self._meeting.is_called()

    def _meet(self, flags: int) -> tuple[int, int]:
        """Return the tick that the first of the ranks has come to, and the flags of all."""
        if self._meeting is None:
            return self.tick, flags if self.comm.size == 1 else 0
        return self._meeting.meet(self.tick, flags)

    def _merge(self, flags: int) -> int:
        """Merge all agents' rows at their owners, and take the result. Collective."""
        sizes = [len(agent.rows) for agent in self.agents]
        rows, ends = sum(sizes), np.cumsum(sizes)
        exchange = self._exchange_of(rows)
        words = exchange.outbox["words"][:rows]
        for agent, size, end in zip(self.agents, sizes, ends, strict=True):
            agent.write(words[end - size : end])
        # By hash, hence grouped by owner, too; which merges equal ones in the order of the agents.
        several = len(self.agents) > 1
        if several:
            by_hash = np.argsort(words[:, periodic_kernels.HASH], kind="stable")
            words[:] = words[by_hash]
        firsts = [first_hash(rank, self.comm.size) for rank in range(1, self.comm.size)]
        starts = np.searchsorted(words[:, periodic_kernels.HASH], np.array(firsts, np.uint64))
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
        if several:
            merged = np.empty_like(merged)
            merged[by_hash] = exchange.replies_in[:rows]
        for agent, size, end in zip(self.agents, sizes, ends, strict=True):
            mine = merged[end - size : end]
            agent.load(mine["values"], mine["visits"])
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
            records = record_types(self.shard.columns, algorithm.visits, algorithm.mask_words)
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
                self.shard.table, words, values, order, done, self._agents, decay, importance
            )
            if done == order.size:
                return
            self.shard.grow()

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return also the states that agents hold copies of; `restore_extra` reads them."""
        held = [agent.held for agent in self.agents[: self._held]]
        counts = np.array([hashes.size for hashes in held], np.uint64)
        copies = counts, np.concatenate([np.empty(0, np.uint64), *held])
        return super().saved_arrays() + list(zip(saved_state.COPY_FIELDS, copies, strict=True))

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Bring the copies back, without their values.

        Raises
        ------
        CheckpointError
            if the run was saved with another number of agents, or in another mode.
        """
        super().restore_extra(file, header)
        none = np.empty(0, np.uint64)
        counts = (file["local/count"][:] if "local/count" in file else none).astype(np.int64)
        if len(counts) != self._agents:
            raise CheckpointError(
                f"the checkpoint has the copies of {len(counts)} agents, but mode.agents is "
                f"{self._agents}; a run goes on with as many as it has begun with"
            )
        ends, first = np.cumsum(counts), block(self.comm.rank, self.comm.size, self._agents)[0]
        for number, agent in enumerate(self.agents[: self._held], first):
            agent.restore_rows(file["local/key"][ends[number] - counts[number] : ends[number]])

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        for agent in self.agents:
            agent.close()
        self._free_exchange()
        if self._meeting is not None:
            self._meeting.free()

    def restored(self) -> None:
        """Fetch the values of the copies from their owners. Collective."""
        self._merge(0)
