"""Lockstep mode: every rank takes the same ticks at the same time."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.exchange import make_exchange
from hpcq.exchange.base import Exchange
from hpcq.job.job import Job
from hpcq.learning.actor import Actor
from hpcq.learning.learner import Learner
from hpcq.learning.owner import Owner
from hpcq.learning.tick import NO_LIMIT, make_ticks
from hpcq.table.shard import Shard


class TickingLearner(Learner):
    """A learner that goes from tick to tick; see `Learner`.

    Attributes
    ----------
    exchange : Exchange
        through which ticks send
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
        environments = self.job.environment.count
        self.collector = self._collect(self.start, self.count)
        actor = Actor(self.algorithm, self.collector, self._seed, environments, route)
        self.windows, self.replay, self.exchange = actor.windows, actor.replay, actor.exchange
        self.owner = Owner(self.algorithm, rows, len(self.exchange.sent))
        self._ticks = make_ticks(actor, self.owner, environments, pauses, make_rows)
        self.stopwatch = self._ticks.stopwatch

    @property
    def tick(self) -> int:
        """Ticks done; -1 before `begin`."""
        return self._ticks.tick

    @tick.setter
    def tick(self, tick: int) -> None:
        self._ticks.tick = tick

    def received(self) -> int:
        """Return the updates and queries that came to this rank in the last exchange."""
        return self.exchange.received()

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        return self.exchange.network_messages(), self.exchange.bytes_sent_elsewhere()

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self._ticks.begin()

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        return self._ticks.stepping

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Do a tick, or more, up to `last`; see `tick.Ticks.advance`. Collective."""
        return self._ticks.advance(flags, last, most_rows, full)

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        self.collector.close()
        self.exchange.free()


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
