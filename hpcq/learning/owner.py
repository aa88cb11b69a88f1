"""What a rank does for all: apply the updates of the states that it owns, and answer queries."""

import numpy as np

from hpcq.exchange.base import Inbox, Replies
from hpcq.job.job import Job
from hpcq.job.schedules import Visits
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.prefetch import RING_SIZE, empty_hints
from hpcq.table.shard import Shard


class Owner:
    """The kernels of `learning.owner` with what they need from tick to tick.

    Parameters
    ----------
    rows
        which are updated and read; they grow as states are met.
    """

    def __init__(self, job: Job, algorithm: Algorithm, rows: Shard) -> None:
        self._rows = rows
        self._rate = job.learning.learning_rate
        self._exponent, self._least = 0.0, 0.0
        if isinstance(self._rate, Visits):
            self._exponent, self._least = self._rate.exponent, self._rate.end
        parameter = algorithm.policy.parameter
        self._exploration = getattr(job.exploration, parameter) if parameter else None
        self._gives_receipts = algorithm.weighted
        watches = job.stop.td_error is not None
        self._kernels = algorithm.owner_kernels(rows.table.width, watches)
        self._largest_error = np.zeros(1)
        self._ring = np.empty(RING_SIZE, np.uint64)
        # What the last answer but one has seen, and the last one.
        self._hints = self._newer_hints = empty_hints(0)

    def apply(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Apply the updates of all sources.

        Parameters
        ----------
        replies
            get a receipt for each update where replay is prioritised.
        steps
            environment steps done, for the learning rate's schedule.
        """
        rate = float(self._rate.at(steps))
        acks, done = replies if self._gives_receipts else None, 0
        if self._hints.starts.size != inbox.starts.size:
            self._hints = empty_hints(inbox.starts.size)
        while True:
            done = self._kernels.apply(
                self._rows.table,
                inbox,
                rate,
                self._exponent,
                self._least,
                self._ring,
                self._hints,
                done,
                self._largest_error,
                acks,
            )
            if done < 0:
                return
            self._rows.grow()

    def answer(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Answer the queries of all sources from the rows as they stand.

        Parameters
        ----------
        steps
            environment steps done, for the schedule of exploration.
        """
        parameter = float(self._exploration.at(steps)) if self._exploration else 0.0
        while True:
            needed = self._kernels.answer(self._rows.table, inbox, parameter, self._hints, replies)
            if needed < 0:
                break
            self._hints = empty_hints(inbox.starts.size, 2 * needed)
        # What was seen before has served: the next updates follow the answer before this one.
        self._hints, self._newer_hints = self._newer_hints, self._hints

    def largest_error(self, reset: bool = False) -> float:
        """Return the largest |TD error| of the updates so far; `reset`: begin to look anew.

        0 unless the job stops by it.
        """
        found = float(self._largest_error[0])
        if reset:
            self._largest_error[0] = 0.0
        return found
