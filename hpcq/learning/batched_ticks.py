"""Ticks of several batches of environments: while the messages of one travel, others are worked on.

A tick: step the first batch and send its messages; so with the next one; then take the messages of
the first, apply its updates, answer its queries, and send the replies; so with the next one. The
replies of a batch are taken before it steps again: they, too, travel under other work, also from
one tick to the next. Between two calls nothing is in flight.

Environments belong to the batches by their numbers, and owners come to the batches in their order.
So the table is a function of the job alone, whatever the number of ranks.

Two batches are double buffering: Petrenko, Huang, Kumar, Sukhatme, Koltun, "Sample Factory", ICML
2020, section 3.2.
"""

import time
from collections.abc import Sequence

from hpcq.learning.actor import Actor
from hpcq.learning.owner import Owner
from hpcq.learning.phases import Batch, Phases
from hpcq.learning.tick import NO_LIMIT, PAUSE, PAUSE_NS, Ticks
from hpcq.table.hash_table import ROWS


class BatchedTicks(Ticks):
    """Ticks of several batches; see `Ticks`.

    Parameters
    ----------
    actors, owners
        one of each for every batch.
    pauses
        whether this rank ends long calls.
    """

    def __init__(
        self, actors: Sequence[Actor], owners: Sequence[Owner], environments: int, pauses: bool
    ) -> None:
        super().__init__(actors[0], owners[0], environments)
        self._actors, self._shard = actors, owners[0].shard
        self._pause_ns = PAUSE_NS if pauses else 0
        pairs = zip(actors[1:], owners[1:], strict=True)
        batches = [self._batch, *(Batch(self, actor, owner) for actor, owner in pairs)]
        self._opening = _joined([batch.sending for batch in batches])
        self._going_on = _joined([batch.taking + batch.sending for batch in batches])
        self._working = _joined([batch.working for batch in batches])
        self._closing = _joined([batch.taking for batch in batches])

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = self.flags = 0
        for actor in self._actors:
            actor.collector.begin()
        sending = [phase for phase in self._opening if phase[0] != "step"]
        for _, phase in (*sending, *self._working, *self._closing):
            phase()

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Do a tick, or several; see `Ticks.advance`."""
        until = time.monotonic_ns() + self._pause_ns
        run, before = self.stopwatch.run, self._opening
        while True:
            self.tick += 1
            self.flags = flags
            if self._pause_ns and time.monotonic_ns() > until:
                self.flags |= PAUSE
            if self._shard.table.state[ROWS] > most_rows:
                self.flags |= full
            run(self.tick, before + self._working)
            if self.agreed or self.tick >= last:
                break
            before = self._going_on
        run(self.tick, self._closing, ends=False)
        return self.agreed & ~PAUSE


def _joined(parts: Sequence[Phases]) -> Phases:
    return tuple(phase for part in parts for phase in part)
