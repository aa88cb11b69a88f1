"""What the modes of learning have in common: one rank's part of a job."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.collectors.base import Collector, block
from hpcq.collectors.centring import RATE, make_centre
from hpcq.collectors.factory import make_collector
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.fields import Field
from hpcq.job.job import Job
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.owner import Owner
from hpcq.learning.progress import Progress
from hpcq.learning.stopwatch import Stopwatch
from hpcq.learning.tick import NO_LIMIT
from hpcq.rng import seed_word
from hpcq.table.digest import Digest, digest_pieces
from hpcq.table.shard import Shard

ROWS_PER_PIECE = 1 << 16


class Learner:
    """One rank's part of the job: its environments, its shard, and how they work together.

    Parameters
    ----------
    job
        the same on every rank.
    environment
        from `envs.resolve`.
    comm
        the ranks that share the table.

    Attributes
    ----------
    algorithm : Algorithm
    start : int
        the first of the job's environments that this rank holds
    count : int
        how many of them it holds
    shard : Shard
        the rows that this rank owns
    owner : Owner
        applies updates and answers queries
    collector : Collector
        of this rank's environments
    progress : Progress
        what decides when the run ends
    centre : Centre
        the mean reward, which is subtracted from rewards
    stopwatch : Stopwatch
        how long the phases of a tick take on this rank
    """

    owner: Owner
    collector: Collector
    stopwatch: Stopwatch

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        comm: MPI.Intracomm,
    ) -> None:
        self.job = job
        self.environment = environment
        self.comm = comm
        self.progress = Progress()
        self.algorithm = Algorithm.of(job, environment)
        unit = job.environment.vector or 1
        self.start, self.count = block(comm.rank, comm.size, job.environment.count, unit)
        self._seed = seed_word(job.run.seed)
        self.shard = self._make_shard()
        updates = job.environment.count * (1 + job.replay.ratio)
        self.centre = make_centre(self.algorithm.centring, updates, job.learning.gamma)

    def _make_shard(self) -> Shard:
        return self.algorithm.make_shard(self.comm.size)

    def _collect(self, start: int, count: int, batch: int = 0, batches: int = 1) -> Collector:
        """Return the collector of environments; see `make_collector`."""
        reset_every = self.job.environment.reset_every
        places = start, count, reset_every, batch, batches
        return make_collector(self.environment, self._seed, *places)

    @property
    def tick(self) -> int:
        """Ticks done; -1 before `begin`."""
        raise NotImplementedError

    @tick.setter
    def tick(self, tick: int) -> None:
        raise NotImplementedError

    @property
    def saved_tick(self) -> int:
        """The tick that a checkpoint is of."""
        return self.tick

    @property
    def solution(self) -> dict[str, Any]:
        """What is proven of a solved table: nothing of a learned one."""
        return {}

    @property
    def stop_latency(self) -> int:
        """Ticks that can pass from a request to stop until the run is saved."""
        return min(self.save_every, 2) if self.job.run.cut_episodes else self.save_every

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks."""
        return max(0, self.tick) * self.job.environment.count

    def exploration(self, episodes: int) -> dict[str, float]:
        """Return the policy's parameter by its key in the job; nothing where it has none.

        Parameters
        ----------
        episodes
            ended so far, in all environments of the job.
        """
        key, each = self.algorithm.policy.parameter, episodes / self.job.environment.count
        return {} if key is None else {key: self.algorithm.parameter_at(self.steps, each)}

    @property
    def save_every(self) -> int:
        """The run can be saved after ticks that are multiples of this, and after a cut."""
        return self.collector.reset_every

    @property
    def ticks_to_quiesce(self) -> int:
        """Ticks that `quiesce` takes."""
        return 0

    @property
    def look_every(self) -> int:
        """The whole table can be looked at after ticks that are multiples of this."""
        return 1

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All rows that this rank holds in memory."""
        return (self.shard,)

    def ended_episodes(self) -> int:
        """Return the episodes that have ended in this rank's environments."""
        return int(self.collector.batch.episodes.sum())

    def largest_error(self, reset: bool = False) -> float:
        """Return the largest |TD error| on this rank since the last reset; see `Owner`.

        Parameters
        ----------
        reset
            whether to begin anew.
        """
        return self.owner.largest_error(reset)

    def take_episode_stats(self) -> list[float]:
        """Return ended episodes, sum of returns, and sum of lengths, on this rank; reset them."""
        stats = self.collector.episode_stats.tolist()
        self.collector.episode_stats[:] = 0
        return stats

    def received(self) -> int:
        """Return the updates and queries that came to this rank in the last exchange."""
        raise NotImplementedError

    def traffic(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sent to others in the last `advance`."""
        raise NotImplementedError

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        raise NotImplementedError

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        return None

    def advance(
        self,
        flags: int = 0,
        last: int = 0,
        most_rows: int = NO_LIMIT,
        full: int = 0,
        cut: bool = False,
    ) -> int:
        """Do a tick, or more; return the flags of all ranks, or-ed. Collective.

        Parameters
        ----------
        last
            the tick at which to return, if not before.
        most_rows, full
            once this rank has more rows, it has this flag.
        cut
            do one tick, and end in it what cannot be saved: episodes whose states cannot be, and
            in periodic mode what ranks have not merged.
        """
        raise NotImplementedError

    def environment_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what is saved of every environment of this rank, in the order of these."""
        raise NotImplementedError

    def load_environments(self, read: Callable[[Field], NDArray]) -> None:
        """Take what was saved of the environments of this rank, as `read` returns it."""
        raise NotImplementedError

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return all that a checkpoint holds of this rank beside its table."""
        return self.environment_arrays()

    def restore_extra(self, file: Mapping[str, Any], header: Any) -> None:
        """Go on from a checkpoint whose environments and progress have been read.

        Raises
        ------
        CheckpointError
            if the file is of another number of ranks or of another mode, and that matters.
        """
        self.centre.numbers[RATE] = self.progress.reward_rate or 0.0
        self.centre.changes[0] = self.progress.change if self.comm.rank == 0 else 0
        self.centre.changes[1] = len(self.shard) * self.shard.columns

    def restored(self) -> None:
        """Do what is left to do once all ranks are back. Collective."""

    def quiesce(self) -> None:
        """Come to a tick at which the run can be saved, where it is not at one. Collective."""
        if self.algorithm.centring:
            self.progress.reward_rate = float(self.centre.numbers[RATE])
            self.progress.change = self.comm.allreduce(int(self.centre.changes[0]))

    def digest(self) -> Digest:
        """Return the digest of the whole table. Collective."""
        return total_digest(self.comm, digest_pieces(self.shard.pieces(ROWS_PER_PIECE)))

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End what goes on beside this thread, however the training ends; not collective."""


def total_digest(comm: MPI.Intracomm, local: Digest) -> Digest:
    """Return the digest of all ranks' rows together. Collective."""
    sums = np.array(local, np.uint64)
    comm.Allreduce(MPI.IN_PLACE, sums, MPI.SUM)
    return Digest(*(int(value) for value in sums))
