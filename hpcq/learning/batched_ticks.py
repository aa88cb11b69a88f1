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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.atomics import LINE
from hpcq.jit.compiler import PrecompiledCall
from hpcq.learning import batched_tick_kernel, tick_kernel
from hpcq.learning.actor import Actor
from hpcq.learning.batched_tick_kernel import (
    ALL_AGREED,
    ALL_TICK,
    BATCH,
    MINE,
    SENDING,
    STAGE,
    WORKING,
)
from hpcq.learning.owner import Owner
from hpcq.learning.phases import Batch, Phases
from hpcq.learning.tick import NO_LIMIT, PAUSE, PAUSE_NS, Ticks, make_room
from hpcq.learning.tick_kernel import PACK, PHASE, STEP, TICK, TURNED
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


class KernelBatchedTicks(BatchedTicks):
    """Ticks of several batches in one kernel; see `BatchedTicks`."""

    def __init__(
        self, actors: Sequence[Actor], owners: Sequence[Owner], environments: int, pauses: bool
    ) -> None:
        super().__init__(actors, owners, environments, pauses)
        self._owners = owners
        self._state = np.zeros(batched_tick_kernel.COLUMNS, np.int64)
        self._ats = [np.zeros(tick_kernel.COLUMNS, np.int64) for _ in actors]
        self._where = np.zeros((1, LINE), np.int32)
        actor, owner = actors[0], owners[0]
        ticks = tick_kernel.make_ticks(
            actor.collector.step_kernel,
            *actor.kernels,
            *owner.kernels,
            None,
            actor.exchange.shared,
            apart=True,
        )
        self._kernel = PrecompiledCall(batched_tick_kernel.make_batched_ticks(ticks))

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now."""
        return bool(self._where[0, 0] == STEP)

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = 0
        for actor, at in zip(self._actors, self._ats, strict=True):
            actor.collector.begin()
            at[PHASE] = PACK
        self._state[STAGE], self._state[BATCH] = SENDING, 0
        self._run(0)

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Do a tick, or several; see `Ticks.advance`."""
        self._state[STAGE], self._state[BATCH] = WORKING, len(self._ats)
        return self._run(max(last, self.tick + 1), flags, most_rows, full) & ~PAUSE

    def _run(self, last: int, flags: int = 0, most_rows: int = NO_LIMIT, full: int = 0) -> int:
        """Go on with the batch that comes next; return the flags of all."""
        state, until = self._state, 0
        state[ALL_TICK], state[ALL_AGREED], state[MINE] = self.tick, 0, flags
        for at in self._ats:
            at[TICK] = self.tick
        if self._pause_ns and last > 0:
            until = time.monotonic_ns() + self._pause_ns
        while True:
            waits = self._call(last, flags, until, most_rows, full)
            for at, owner in zip(self._ats, self._owners, strict=True):
                if at[TURNED]:
                    owner.turn_hints()
                    at[TURNED] = 0
            if not waits:
                break
            number = int(state[BATCH])
            exchange = self._actors[number].exchange
            make_room(self._ats[number], self._owners[number], exchange)
        self.tick = int(state[ALL_TICK])
        return int(state[ALL_AGREED])

    def _call(self, last: int, flags: int, until: int, most_rows: int, full: int) -> bool:
        owner = self._owners[0]
        return self._kernel(
            self._state,
            self._where,
            last,
            flags,
            PAUSE,
            until,
            most_rows,
            full,
            self._environments,
            self.stopwatch.spent,
            self._shard.table,
            owner.learning_rate,
            owner.parameter,
            owner.apply_settings,
            tuple(map(_own_arguments, self._ats, self._actors, self._owners)),
        )


def _own_arguments(at: NDArray[np.int64], actor: Actor, owner: Owner) -> tuple[Any, ...]:
    exchange = actor.exchange
    return (
        at,
        actor.collector.step_arguments,
        actor.pack_arguments,
        actor.receive_arguments,
        exchange.inbox,
        exchange.replies,
        owner.hints,
        owner.newer_hints,
        exchange.node,
        exchange.packed,
        exchange.written,
    )


def make_batched_ticks(
    actors: Sequence[Actor], owners: Sequence[Owner], environments: int, pauses: bool
) -> BatchedTicks:
    """Return the ticks of several batches: in one kernel where that can be.

    Parameters
    ----------
    pauses
        whether this rank ends long calls.
    """
    actor = actors[0]
    compiled = actor.collector.step_kernel is not None and actor.replay is None
    kind = KernelBatchedTicks if compiled and actor.exchange.direct else BatchedTicks
    return kind(actors, owners, environments, pauses)


def _joined(parts: Sequence[Phases]) -> Phases:
    return tuple(phase for part in parts for phase in part)
