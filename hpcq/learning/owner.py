"""What a rank does for all: apply the updates of the states that it owns, and answer queries."""

import numpy as np

from hpcq.exchange.base import Inbox, Replies
from hpcq.job.schedules import Visits
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.prefetch import RING_SIZE, empty_hints
from hpcq.table.shard import Shard


class Owner:
    """The kernels of `learning.owner_kernels` with what they need from tick to tick.

    Parameters
    ----------
    shard
        which is updated and read; it grows as states are met.
    """

    def __init__(self, algorithm: Algorithm, shard: Shard) -> None:
        self._algorithm = algorithm
        self._shard = shard
        rate = algorithm.learning_rate
        self._exponent, self._least = 0.0, 0.0
        if isinstance(rate, Visits):
            self._exponent, self._least = rate.exponent, rate.end
        self._kernels = algorithm.owner_kernels(shard.table.width)
        self._largest_error = np.zeros(1)
        self._ring = np.empty(RING_SIZE, np.uint64)
        # From the second-to-last answer, and from the last one.
        self._hints = self._newer_hints = empty_hints(0)

    def apply(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Apply the updates of all sources.

        Parameters
        ----------
        replies
            get an ack for each update where replay is prioritised.
        steps
            environment steps done, for the learning rate's schedule.
        """
        rate = float(self._algorithm.learning_rate.at(steps))
        acks, done = replies if self._algorithm.weighted else None, 0
        if self._hints.starts.size != inbox.starts.size:
            self._hints = empty_hints(inbox.starts.size)
        while True:
            done = self._kernels.apply(
                self._shard.table,
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
            self._shard.grow()

    def answer(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Answer the queries of all sources from the rows as they stand.

        Parameters
        ----------
        steps
            environment steps done, for the schedule of exploration.
        """
        parameter = self._algorithm.parameter_at(steps)
        while True:
            needed = self._kernels.answer(self._shard.table, inbox, parameter, self._hints, replies)
            if needed < 0:
                break
            self._hints = empty_hints(inbox.starts.size, 2 * needed)
        # The next updates concern the states queried one answer earlier.
        self._hints, self._newer_hints = self._newer_hints, self._hints

    def largest_error(self, reset: bool = False) -> float:
        """Return the largest |TD error| since the last reset; 0 if they are not recorded.

        Parameters
        ----------
        reset
            whether to begin anew.
        """
        found = float(self._largest_error[0])
        if reset:
            self._largest_error[0] = 0.0
        return found
