"""An agent of periodic mode: some of the environments, and a table of its own between merges."""

from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.exchange import make_exchange
from hpcq.hashing import hashes_of
from hpcq.job.job import Job
from hpcq.learning import periodic_kernels
from hpcq.learning.lockstep import TickingLearner
from hpcq.learning.stopwatch import Stopwatch
from hpcq.learning.tick import NO_LIMIT, KernelTicks
from hpcq.table.shard import Shard


class Agent(TickingLearner):
    """Learns on `rows` as a single rank would; a merge reads what it made of them, and sets them.

    Parameters
    ----------
    start, count
        the environments of the job that it steps.

    Attributes
    ----------
    held : uint64 array
        hashes of the rows that the last merge brought, ascending
    counted : uint32 array
        (held, columns), their visit counts then
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment | PythonEnvironment,
        start: int,
        count: int,
    ) -> None:
        super().__init__(job, environment, MPI.COMM_SELF)
        self.start, self.count = start, count
        make_rows = periodic_kernels.ensure_rows
        self._tick_on(self.shard, partial(make_exchange, self.comm), False, make_rows)
        self.held = np.empty(0, np.uint64)
        self.counted = np.empty((0, self.rows.columns), np.uint32)

    def _make_shard(self) -> Shard:
        return self.algorithm.make_shard(1, visits=True)

    def timed_by(self, stopwatch: Stopwatch) -> None:
        """Add the times of its phases to those of others."""
        self.stopwatch = self._ticks.stopwatch = stopwatch

    def begin(self) -> None:
        """Reset every environment: tick 0."""
        super().begin()
        self._ensure_rows()

    def advance(
        self,
        flags: int = 0,
        last: int = 0,
        most_rows: int = NO_LIMIT,
        full: int = 0,
        cut: bool = False,
    ) -> int:
        """Do a tick, or more, up to `last`; see `Learner.advance`."""
        agreed = super().advance(flags, last, most_rows, full, cut)
        self._ensure_rows()
        return agreed

    def _ensure_rows(self) -> None:
        """Make a row for every state that has just been read, if the tick did not."""
        if isinstance(self._ticks, KernelTicks):
            return
        batch, done = self.collector.batch, 0
        while (
            done := periodic_kernels.ensure_rows(self.rows.table, batch, done)
        ) < batch.hash.size:
            self.rows.grow()

    def write(self, words: NDArray[np.uint64]) -> None:
        """Write a record of each row, in the order of hashes: what was made of it since a merge.

        Parameters
        ----------
        words
            (rows, words of a record), out.
        """
        counted = self.counted if self.algorithm.visits else self.counted[:, :0]
        periodic_kernels.write_records(
            self.rows.table, self.held, counted, words, words.view(np.float64)
        )
        self.held = words[:, periodic_kernels.HASH].copy()

    def load(self, values: NDArray[np.float64], visits: NDArray[np.uint64]) -> None:
        """Take what a merge has made of the rows in `held`."""
        self.counted = periodic_kernels.countable(visits)
        periodic_kernels.load_values(self.rows.table, values, self.counted)

    def restore_rows(self, keys: NDArray[np.uint64]) -> None:
        """Make rows for the states of a checkpoint; a merge brings their values."""
        self.held = hashes_of(keys)
        nothing = np.zeros((self.held.size, self.rows.columns), np.uint32)
        masks = np.zeros((self.held.size, self.algorithm.mask_words), np.uint64)
        self.rows.load(self.held, nothing.astype(self.rows.dtype), nothing, masks)
        self.counted = nothing
