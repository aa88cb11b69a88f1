"""The rounds of compiled environments in asynchronous mode: what their kernel needs, and gets."""

import time
from typing import Any

import numpy as np

from hpcq.jit.atomics import LINE
from hpcq.jit.compiler import PrecompiledCall
from hpcq.job.job import Job
from hpcq.learning import round_kernel
from hpcq.learning.answering import MailboxServer
from hpcq.learning.owner import Owner
from hpcq.learning.parts import Part
from hpcq.learning.round_kernel import (
    AGREED,
    AHEAD,
    BUDGET,
    NUMBERS,
    OWN,
    SIZE,
    STEPPING,
    TICKS,
    TOTAL,
    WAITS,
)
from hpcq.learning.tick import PAUSE, PAUSE_NS


class Rounds:
    """Steps the parts of a rank, answers and adds up, many rounds at a call.

    Attributes
    ----------
    total_steps : int
        of all ranks, as of the last round
    """

    def __init__(self, parts: list[Part], owner: Owner, server: MailboxServer, job: Job) -> None:
        self._parts, self._owner, self._server = parts, owner, server
        self._environments, self._staleness = job.environment.count, job.mode.max_staleness
        self._at = np.zeros(round_kernel.COLUMNS, np.int64)
        self._states = np.zeros((round_kernel.ROWS_OF_PARTS, len(parts)), np.int64)
        self._states[SIZE] = [part.size for part in parts]
        self._where = np.full((1, LINE), round_kernel.EXCHANGING, np.int32)
        first = parts[0].actor
        kernels = first.collector.step_kernel, *first.kernels, server.kernel
        self._kernel = PrecompiledCall(round_kernel.make_rounds(*kernels))

    @property
    def stepping(self) -> bool:
        """Whether environments are being stepped now."""
        return bool(self._where[0, 0] == STEPPING)

    @property
    def total_steps(self) -> int:
        """Environment steps of all ranks, as of the last round."""
        return int(self._at[TOTAL])

    def run(
        self, own_steps: int, last: int, horizon: int, flags: int, most_rows: int, full: int
    ) -> tuple[int, int]:
        """Go on to a tick, or to a round with flags; see `tick.Ticks.advance`. Collective.

        Parameters
        ----------
        own_steps
            of this rank so far.
        horizon
            the tick beyond which all together should not go, at or after `last`.

        Returns
        -------
        tuple
            the steps of this rank, and the flags of all ranks, or-ed
        """
        at, states, boxes = self._at, self._states, self._server.boxes
        at[OWN] = own_steps
        for i, part in enumerate(self._parts):
            states[TICKS, i], states[NUMBERS, i] = part.tick, part.exchange.posted
            states[WAITS, i] = part.waiting
            states[BUDGET, i], states[AHEAD, i] = part.budget, part.ahead
        until = time.monotonic_ns() + PAUSE_NS if boxes.rank == 0 else 0
        while self._kernel(
            at,
            self._where,
            last,
            horizon,
            flags,
            PAUSE,
            until,
            most_rows,
            full,
            self._environments,
            self._staleness,
            boxes,
            states,
            self._arguments(),
            self._server.arguments,
        ):
            self._owner.shard.grow()
        for i, part in enumerate(self._parts):
            part.tick, part.exchange.posted = int(states[TICKS, i]), int(states[NUMBERS, i])
            part.waiting = bool(states[WAITS, i])
            part.budget, part.ahead = int(states[BUDGET, i]), int(states[AHEAD, i])
        return int(at[OWN]), int(at[AGREED]) & ~PAUSE

    def _arguments(self) -> tuple[Any, ...]:
        return tuple(
            (
                actor.collector.step_arguments,
                actor.pack_arguments,
                actor.receive_arguments,
                actor.exchange.packed,
            )
            for actor in (part.actor for part in self._parts)
        )
