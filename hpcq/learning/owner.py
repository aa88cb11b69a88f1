"""What a rank does for all: apply the updates of the states that it owns, and answer queries."""

import copy

import numpy as np

from hpcq.collectors.centring import Centre, make_centre
from hpcq.exchange.base import Inbox, Replies
from hpcq.jit.compiler import PrecompiledCall
from hpcq.job.scheduled import value_at
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.prefetch import RING_SIZE, empty_hints
from hpcq.table.shard import Shard


class Owner:
    """The kernels of `learning.owner_kernels` with what they need from tick to tick.

    Parameters
    ----------
    shard
        which is updated and read; it grows as states are met.
    sources
        ranks that send updates and queries.
    centre
        the mean reward; default: one of its own.

    Attributes
    ----------
    kernels : OwnerKernels
    hints : SlotHints
        from the second-to-last answer: the next updates concern these rows
    newer_hints : SlotHints
        from the last answer
    learning_rate, parameter : Terms
        schedules by environment steps, the second one of the policy
    apply_settings : tuple
        what the kernel `apply` gets behind the learning rate
    """

    def __init__(
        self, algorithm: Algorithm, shard: Shard, sources: int = 1, centre: Centre | None = None
    ) -> None:
        self.shard = shard
        self.kernels = algorithm.owner_kernels(shard.table.width)
        self._answer, self._apply = map(PrecompiledCall, self.kernels)
        self._weighted = algorithm.weighted
        rate = algorithm.learning_rate
        self.learning_rate, self.parameter = rate.terms, algorithm.parameter
        self._largest_error = np.zeros(1)
        ring = np.empty(RING_SIZE, np.uint64)
        centre = centre or make_centre()
        after = algorithm.intervals_after or 0
        self.apply_settings = algorithm.rate_decay, ring, self._largest_error, centre, after
        self.hints, self.newer_hints = empty_hints(sources), empty_hints(sources)

    def sibling(self) -> "Owner":
        """Return an owner of the same rows for other senders, whose messages have other hints."""
        other = copy.copy(self)
        sources = self.hints.starts.size
        other.hints, other.newer_hints = empty_hints(sources), empty_hints(sources)
        return other

    def apply(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Apply the updates of all sources.

        Parameters
        ----------
        replies
            get an ack for each update where replay is prioritised.
        steps
            environment steps done, for the learning rate's schedule.
        """
        rate = float(value_at(self.learning_rate, steps))
        acks, done = replies if self._weighted else None, 0
        while (
            done := self._apply(
                self.shard.table, inbox, self.hints, acks, done, rate, *self.apply_settings
            )
        ) >= 0:
            self.shard.grow()

    def answer(self, inbox: Inbox, replies: Replies, steps: int) -> None:
        """Answer the queries of all sources from the rows as they stand.

        Parameters
        ----------
        steps
            environment steps done, for the schedule of exploration.
        """
        parameter = float(value_at(self.parameter, steps))
        while (
            needed := self._answer(self.shard.table, inbox, parameter, self.hints, replies)
        ) >= 0:
            self.reserve_hints(needed)
        self.turn_hints()

    def reserve_hints(self, queries: int) -> None:
        """Make room for hints of so many queries."""
        self.hints = empty_hints(self.hints.starts.size, 2 * queries)

    def turn_hints(self) -> None:
        """Let the hints of the last answer wait for the next tick but one."""
        self.hints, self.newer_hints = self.newer_hints, self.hints

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
