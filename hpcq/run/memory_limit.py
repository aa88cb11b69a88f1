"""Whether a rank's rows stay within `run.table_gib` until the run can be saved."""

from mpi4py import MPI

from hpcq.errors import JobError
from hpcq.learning.learner import Learner
from hpcq.learning.tick import NO_LIMIT
from hpcq.table.shard import Shard

GIB = 1 << 30


class MemoryLimit:
    """The limit `run.table_gib` on the shards of one rank.

    A rank is short once it has no reserve for all rows that can come until the run is saved: one
    for every environment in every tick until then, and those of returns of several steps.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._limit = learner.job.run.table_gib
        ticks = learner.stop_latency + learner.algorithm.steps
        self._margin = ticks * learner.job.environment.count
        # The shards of a rank share the limit equally.
        self._most = [
            most_rows(table, self._limit / len(learner.shards))
            for table in learner.shards
            if self._limit is not None
        ]

    @property
    def most_rows(self) -> int:
        """The rows of which a tick's table may have at most, or this rank is short."""
        return self._most[-1] - self._margin if self._most else NO_LIMIT

    def short(self) -> bool:
        """Return whether this rank must ask for a stop."""
        return self._limit is not None and any(
            len(table) + self._margin > most
            for table, most in zip(self._learner.shards, self._most, strict=False)
        )

    def check(self) -> None:
        """Refuse to train if a rank is short from the beginning. Collective.

        Raises
        ------
        JobError
            naming the memory needed.
        """
        if self._limit is not None and self._learner.comm.allreduce(self.short(), MPI.MAX):
            raise JobError(self.explain()).on_all_ranks()

    def explain(self) -> str:
        """Return how much memory resuming needs, as text. Collective."""
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
