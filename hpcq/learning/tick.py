"""The phases of a tick: step, pack, exchange, apply and answer, exchange back, receive.

At the owner, the updates of the last tick are applied in environment order before the queries of
this one are answered, so the table after tick t is a function of the job alone, whatever the number
of ranks.

Where ranks need no message (one rank, or those of one node) the phases run in one kernel, and where
the environments are compiled, too, that kernel does many ticks (tick_kernel.py). Else the same
kernels are called one by one.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.exchange.base import Exchange
from hpcq.jit.atomics import LINE
from hpcq.jit.compiler import PrecompiledCall
from hpcq.learning import tick_kernel
from hpcq.learning.actor import Actor
from hpcq.learning.owner import Owner
from hpcq.learning.phases import Batch, TickState
from hpcq.learning.stopwatch import Stopwatch
from hpcq.learning.tick_kernel import AGREED, APPLY, DONE, NEEDED, PACK, PHASE, STEP, TICK, TURNED

# The flag by which rank 0 ends a call for all, and after how long: signals, reports and the clocks
# of the run are looked at between calls.
PAUSE = 1 << 7
PAUSE_NS = 20_000_000
NO_LIMIT = np.iinfo(np.int64).max


class Ticks(TickState):
    """An actor and an owner that take every tick together, with those of the other ranks.

    Attributes
    ----------
    stopwatch : Stopwatch
        how long the phases take on this rank
    """

    def __init__(self, actor: Actor, owner: Owner, environments: int) -> None:
        super().__init__(environments)
        self.stopwatch = Stopwatch()
        self._actor, self._owner, self._exchange = actor, owner, actor.exchange
        self._batch = batch = Batch(self, actor, owner)
        self._phases = batch.sending + batch.working + batch.taking

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now; None: as the Python stack says."""
        return None

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = 0
        self._actor.collector.begin()
        for _, phase in self._phases[1:]:
            phase()

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Do a tick, or several; return the flags of all ranks, or-ed. Collective.

        Parameters
        ----------
        last
            the tick at which to return; a tick with flags is the last one, too, and so may be any
            other, the same one on all ranks.
        most_rows, full
            once this rank has more rows, it has this flag.
        """
        self.tick += 1
        self.flags = flags
        self.stopwatch.run(self.tick, self._phases)
        return self.agreed


class KernelTicks(Ticks):
    """Ticks in one kernel; see `Ticks`.

    Parameters
    ----------
    pauses
        whether this rank ends long calls.
    make_rows
        a kernel that makes rows for the states that a tick has read.
    """

    def __init__(
        self,
        actor: Actor,
        owner: Owner,
        environments: int,
        pauses: bool,
        make_rows: Any = None,
    ) -> None:
        super().__init__(actor, owner, environments)
        self._at = np.zeros(tick_kernel.COLUMNS, np.int64)
        self._where = np.zeros((1, LINE), np.int32)
        self._pause_ns = PAUSE_NS if pauses else 0
        self._compiled = actor.collector.step_kernel is not None
        self._kernel = PrecompiledCall(
            tick_kernel.make_ticks(
                actor.collector.step_kernel,
                *actor.kernels,
                *owner.kernels,
                make_rows,
                actor.exchange.shared,
            )
        )

    @property
    def stepping(self) -> bool | None:
        """Whether environments are being stepped now."""
        return bool(self._where[0, 0] == STEP) if self._compiled else None

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = 0
        self._actor.collector.begin()
        self._run(PACK, 0)

    def advance(
        self, flags: int = 0, last: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Do a tick, or several; see `Ticks.advance`."""
        if self._compiled:
            return self._run(STEP, max(last, self.tick + 1), flags, most_rows, full) & ~PAUSE
        self.tick += 1
        self.stopwatch.run(self.tick, (("step", self._batch.step),))
        return self._run(PACK, self.tick, flags, most_rows, full)

    def _run(
        self, phase: int, last: int, flags: int = 0, most_rows: int = NO_LIMIT, full: int = 0
    ) -> int:
        """Go on from a phase; return the flags of all."""
        at, until = self._at, 0
        at[TICK], at[PHASE], at[DONE], at[AGREED] = self.tick, phase, 0, 0
        if self._pause_ns and phase == STEP:
            until = time.monotonic_ns() + self._pause_ns
        while True:
            waits = self._call(last, flags, until, most_rows, full)
            if at[TURNED]:
                self._owner.turn_hints()
                at[TURNED] = 0
            if not waits:
                break
            make_room(at, self._owner, self._exchange)
        self.tick = int(at[TICK])
        return int(at[AGREED])

    def _call(self, last: int, flags: int, until: int, most_rows: int, full: int) -> bool:
        actor, owner, exchange = self._actor, self._owner, self._exchange
        return self._kernel(
            self._at,
            self._where,
            last,
            flags,
            PAUSE,
            until,
            most_rows,
            full,
            self._environments,
            self.stopwatch.spent,
            actor.collector.step_arguments if self._compiled else (),
            actor.pack_arguments,
            actor.receive_arguments,
            owner.shard.table,
            exchange.inbox,
            exchange.replies,
            owner.hints,
            owner.newer_hints,
            owner.learning_rate,
            owner.parameter,
            owner.apply_settings,
            exchange.node,
            exchange.packed,
            exchange.written,
        )


def make_room(at: NDArray[np.int64], owner: Owner, exchange: Exchange) -> None:
    """Enlarge what the phase that a kernel of ticks stopped at has no room in."""
    if at[PHASE] == APPLY and at[NEEDED]:
        exchange.reserve_replies(int(at[NEEDED]))
    elif at[PHASE] in (APPLY, tick_kernel.MAKE_ROWS):
        owner.shard.grow()
    else:
        owner.reserve_hints(int(at[NEEDED]))
    at[NEEDED] = 0


def make_ticks(
    actor: Actor, owner: Owner, environments: int, pauses: bool = True, make_rows: Any = None
) -> Ticks:
    """Return the ticks of an actor and an owner: in one kernel where that can be.

    Parameters
    ----------
    pauses, make_rows
        see `KernelTicks`.
    """
    if actor.replay is None and actor.exchange.direct:
        return KernelTicks(actor, owner, environments, pauses, make_rows)
    return Ticks(actor, owner, environments)
