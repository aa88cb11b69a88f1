"""Lockstep mode: every rank takes the same ticks at the same time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.collectors.base import batch_of
from hpcq.collectors.centring import ENDED
from hpcq.collectors.partitioned import PartitionedCollector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError
from hpcq.exchange import make_exchange
from hpcq.exchange.base import Exchange
from hpcq.fields import Field
from hpcq.job.job import Job
from hpcq.learning import saved_state
from hpcq.learning.actor import Actor
from hpcq.learning.batched_ticks import make_batched_ticks
from hpcq.learning.learner import Learner
from hpcq.learning.owner import Owner
from hpcq.learning.tick import NO_LIMIT, Ticks, make_ticks
from hpcq.table.shard import Shard


class TickingLearner(Learner):
    """A learner that goes from tick to tick; see `Learner`.

    Attributes
    ----------
    actors : list of Actor
        one for each batch of environments
    rows : Shard
        which ticks read and update
    """

    def _tick_on(
        self,
        rows: Shard,
        route: Callable[..., Exchange],
        pauses: bool = True,
        make_rows: Any = None,
    ) -> None:
        """Let the ticks work on these rows, with the ranks that an exchange joins. Collective.

        Parameters
        ----------
        pauses, make_rows
            see `tick.KernelTicks`.
        """
        self.rows = rows
        environments, batches = self.job.environment.count, self.job.mode.batches
        collectors = [self._collect(self.start, self.count, i, batches) for i in range(batches)]
        self.collector = collectors[0] if batches == 1 else PartitionedCollector(collectors)
        self.actors = [
            Actor(self.algorithm, collector, self._seed, environments, route, centre=self.centre)
            for collector in collectors
        ]
        unit = self.job.environment.vector or 1
        self._places = [
            batch_of(self.start, self.count, i, batches, unit) - self.start for i in range(batches)
        ]
        sources = len(self.actors[0].exchange.sent)
        self.owner = Owner(self.algorithm, rows, sources, self.centre)
        self._ticks: Ticks
        if batches == 1:
            self._ticks = make_ticks(self.actors[0], self.owner, environments, pauses, make_rows)
        else:
            owners = [self.owner, *(self.owner.sibling() for _ in range(1, batches))]
            self._ticks = make_batched_ticks(self.actors, owners, environments, pauses)
        self.stopwatch = self._ticks.stopwatch

    @property
    def exchanges(self) -> list[Exchange]:
        """Through which ticks send, one for each batch of environments."""
        return [actor.exchange for actor in self.actors]

    @property
    def tick(self) -> int:
        """Ticks done; -1 before `begin`."""
        return self._ticks.tick

    @tick.setter
    def tick(self, tick: int) -> None:
        self._ticks.tick = tick

    def received(self) -> int:
        """Return the updates and queries that came to this rank in the last exchange."""
        return sum(exchange.received() for exchange in self.exchanges)

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        messages = sum(exchange.network_messages() for exchange in self.exchanges)
        return messages, sum(exchange.bytes_sent_elsewhere() for exchange in self.exchanges)

    def ended_episodes(self) -> int:
        """Return the episodes that have ended in this rank's environments."""
        return sum(int(actor.collector.batch.episodes.sum()) for actor in self.actors)

    def environment_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what is saved of every environment of this rank, in the order of these."""
        parts = [self._arrays_of(actor) for actor in self.actors]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate(self._places))
        return [
            (columns[0][0], np.concatenate([array for _, array in columns])[order])
            for columns in zip(*parts, strict=True)
        ]

    def load_environments(self, read: Callable[[Field], NDArray]) -> None:
        """Take what was saved of the environments of this rank, as `read` returns it."""
        for columns in zip(*map(self._arrays_of, self.actors), strict=True):
            saved = read(columns[0][0])
            for (_, array), places in zip(columns, self._places, strict=True):
                array[:] = saved[places]
        for actor in self.actors:
            if actor.replay is not None:
                actor.replay.restored()

    def _arrays_of(self, actor: Actor) -> list[tuple[Field, NDArray]]:
        return saved_state.arrays(
            self.algorithm, actor.collector.batch, actor.windows, actor.replay
        )

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self._ticks.begin()

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        return self._ticks.stepping

    def advance(
        self,
        flags: int = 0,
        last: int = 0,
        most_rows: int = NO_LIMIT,
        full: int = 0,
        cut: bool = False,
    ) -> int:
        """Do a tick, or more, up to `last`; see `Learner.advance`. Collective.

        Raises
        ------
        JobError
            if rewards are centred, but an episode has terminated.
        """
        self.collector.cutting = cut
        agreed = self._ticks.advance(flags, self.tick + 1 if cut else last, most_rows, full)
        if self.centre.numbers[ENDED]:
            raise JobError(
                f"{self.job.source}: learning.centring is for tasks that go on, but an episode of "
                f"{self.environment.id} has ended (terminated): what is left of an episode has no "
                "mean; leave learning.centring out, or let the environment truncate"
            )
        return agreed

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        self.collector.close()
        for exchange in self.exchanges:
            exchange.free()


class LockstepLearner(TickingLearner):
    """A learner whose ranks answer each other in every tick.

    The table does not depend on the number of ranks.

    Parameters
    ----------
    route
        makes the exchange: how messages travel shapes nothing.
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
        route: Callable[..., Exchange] = make_exchange,
    ) -> None:
        super().__init__(job, environment, comm)
        self._tick_on(self.shard, partial(route, comm), pauses=comm.rank == 0)
