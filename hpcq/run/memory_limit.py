"""How much memory the table of a job takes, and whether the next tick still fits a rank's limit."""

from mpi4py import MPI

from hpcq.errors import JobError
from hpcq.learning.learner import Learner
from hpcq.table.shard import Shard

GIB = 1 << 30


class MemoryLimit:
    """The room that `run.table_gib` leaves to the shard of one rank.

    A rank runs short while it can still take all rows that can come before the run is saved: one
    for every environment in every tick up to the next quiet one, and for what windows hold.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._limit = learner.job.run.table_gib
        ticks = learner.stop_latency + learner.algorithm.steps
        self._margin = ticks * learner.job.environment.count
        # Each of a rank's tables may take its part.
        self._most = [
            most_rows(table, self._limit / len(learner.shards))
            for table in learner.shards
            if self._limit is not None
        ]

    def short(self) -> bool:
        """Return whether this rank must ask for a stop."""
        return self._limit is not None and any(
            len(table) + self._margin > most
            for table, most in zip(self._learner.shards, self._most, strict=False)
        )

    def check(self) -> None:
        """Refuse to train where a rank is short from the beginning. Collective.

        Raises
        ------
        JobError
            saying how much memory is needed.
        """
        if self._limit is not None and self._learner.comm.allreduce(self.short(), MPI.MAX):
            error = JobError(self.explain())
            error.collective = True
            raise error

    def explain(self) -> str:
        """Return what is needed to go on, in words. Collective."""
        tables = self._learner.shards
        shard = max(tables, key=len)
        peak = shard.memory_for(len(shard) + 2 * self._margin)[1] * len(tables)
        peak, rows, rank = self._learner.comm.allreduce(
            (peak, len(shard), self._learner.comm.rank), MPI.MAX
        )
        return (
            f"rank {rank} holds {rows:,} states and needs {peak / GIB:.3g} GiB to go on, more than "
            f"run.table_gib = {self._limit:g}; resume on more ranks, or with "
            f"--set run.table_gib={1.01 * peak / GIB:.3g}"
        )


def most_rows(shard: Shard, gib: float) -> int:
    """Return how many rows a shard can come to hold without exceeding a limit on the way."""
    low, high = 0, 1 << 50
    while low < high:
        middle = (low + high + 1) // 2
        if shard.memory_for(middle)[1] <= gib * GIB:
            low = middle
        else:
            high = middle - 1
    return low
