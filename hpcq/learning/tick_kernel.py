"""Many ticks in one compiled call, where ranks need no message: one rank, or those of one node."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.exchange.base import Inbox, Replies
from hpcq.exchange.meeting import begin_meeting, end_meeting
from hpcq.exchange.shm_kernels import locate, publish, publish_replies
from hpcq.jit.atomics import clock_ns, store
from hpcq.jit.compiler import inlined, kernel
from hpcq.job.scheduled import Terms, value_at
from hpcq.learning.prefetch import SlotHints
from hpcq.learning.stopwatch import SAMPLED
from hpcq.table.hash_table import ROWS, Table

# Columns of `at`, where a rank is:
#   TICK     the tick that is done, or going on
#   PHASE    of the tick: the next of those below
#   DONE     how much of the phase is done
#   NEEDED   what room is missing
#   AGREED   the flags of all ranks in the last tick, or-ed
#   TURNED   whether the two arrays of hints have changed places
TICK, PHASE, DONE, NEEDED, AGREED, TURNED = range(6)
COLUMNS = 6
STEP, PACK, LOCATE, APPLY, ANSWER, RECEIVE, MAKE_ROWS = range(7)

# Indices of `spent`, in the order of `stopwatch.PHASES`, and the ticks that were timed.
_STEPPED, _PACKED, _EXCHANGED, _APPLIED, _ANSWERED, _RECEIVED, TIMED = range(7)

_value_at = inlined(value_at)


@inlined
def _nothing() -> None:
    """Stand for a kernel that is not called."""


@inlined
def _lap(spent: NDArray[np.int64], phase: Any, since: int) -> int:
    """Note the time since a phase began, if it was timed; return the time now."""
    if since == 0:
        return 0
    now = clock_ns()
    spent[phase] += now - since
    return now


@functools.cache
def make_ticks(
    step: Any,
    pack: Any,
    receive: Any,
    answer: Any,
    apply: Any,
    make_rows: Any,
    shared: bool,
    apart: bool = False,
) -> Any:
    """Return the kernel that does ticks until something has to be done in Python.

    Parameters
    ----------
    step
        of the collector; None: `tick` begins behind it, and does a single tick.
    make_rows
        makes rows for the states read, as ``make_rows(table, batch, done)``; or None.
    shared
        whether messages go through shared memory; else there is one rank.
    apart
        whether it also returns where it would wait for other ranks: before LOCATE and RECEIVE.
    """
    steps_here, makes_rows = step is not None, make_rows is not None
    step_all: Any = step or _nothing
    make_all_rows: Any = make_rows or _nothing

    @kernel
    def ticks(
        at: NDArray[np.int64],
        where: NDArray[np.int32],
        last: int,
        flags: int,
        pause: int,
        until: int,
        most_rows: int,
        full: int,
        environments: int,
        spent: NDArray[np.int64],
        step_arguments: Any,
        pack_arguments: Any,
        receive_arguments: Any,
        table: Table,
        inbox: Inbox,
        replies: Replies,
        hints: SlotHints,
        newer_hints: SlotHints,
        learning_rate: Terms,
        parameter: Terms,
        apply_settings: Any,
        node: Any,
        packed: NDArray[np.uint64],
        written: NDArray[np.uint64],
    ) -> bool:
        """Go on from the phase in `at`; return whether Python must make room for what is next.

        where          int32 (1, LINE), out: the phase, for another thread to see
        last           the tick after which to return
        flags          of this rank, sent with the next tick; the ticks end where any rank has some
        pause, until   a flag to be sent once the clock is past a time (ns); 0: never
        most_rows      rows of the table from which on the flag `full` is sent
        environments   over all ranks: schedules count their steps
        spent          int64 (7,), in and out: the nanoseconds of each phase, and of how many ticks
        packed         the outbox as uint64
        written        the replies to other ranks of the node as uint64
        """
        batch = pack_arguments[0]
        tick, phase = at[TICK], at[PHASE]
        agreed = at[AGREED]
        now = clock_ns() if apart and phase != STEP and tick % SAMPLED == 0 else 0
        while True:
            if phase == STEP:
                if tick == last or agreed:
                    break
                tick += 1
                now = clock_ns() if tick % SAMPLED == 0 else 0
                if steps_here:
                    store(where, 0, np.int32(STEP))
                    step_all(tick, *step_arguments)
                now = _lap(spent, np.int64(_STEPPED), now)
                phase = PACK
            if phase == PACK:
                store(where, 0, np.int32(PACK))
                pack(tick, *pack_arguments)
                now = _lap(spent, np.int64(_PACKED), now)
                mine = flags
                if until > 0 and clock_ns() > until:
                    mine |= pause
                if table.state[ROWS] > most_rows:
                    mine |= full
                agreed = mine
                if shared:
                    publish(node, packed, pack_arguments[5], mine)
                    begin_meeting(node)
                now = _lap(spent, np.int64(_EXCHANGED), now)
                phase = LOCATE
                if apart:
                    at[TICK], at[PHASE], at[AGREED] = tick, phase, agreed
                    return False
            if phase == LOCATE:
                at[DONE], phase = 0, APPLY
                if shared:
                    end_meeting(node)
                    agreed, needed = locate(node, inbox.counts, inbox.starts, replies.starts)
                    if needed > replies.local.size:
                        at[NEEDED] = needed
                        at[TICK], at[PHASE], at[AGREED] = tick, phase, agreed
                        return True
                now = _lap(spent, np.int64(_EXCHANGED), now)
            steps = max(0, tick) * environments
            if phase == APPLY:
                rate = _value_at(learning_rate, steps)
                done = apply(table, inbox, hints, None, at[DONE], rate, *apply_settings)
                if done >= 0:
                    at[TICK], at[PHASE], at[AGREED], at[DONE] = tick, phase, agreed, done
                    return True
                now = _lap(spent, np.int64(_APPLIED), now)
                phase = ANSWER
            if phase == ANSWER:
                chosen_by = _value_at(parameter, steps)
                needed = answer(table, inbox, chosen_by, hints, replies)
                if needed >= 0:
                    at[TICK], at[PHASE], at[AGREED], at[NEEDED] = tick, phase, agreed, needed
                    return True
                hints, newer_hints = newer_hints, hints
                at[TURNED] ^= 1
                now = _lap(spent, np.int64(_ANSWERED), now)
                if shared:
                    publish_replies(node, written)
                    begin_meeting(node)
                now = _lap(spent, np.int64(_EXCHANGED), now)
                phase = RECEIVE
                if apart:
                    at[TICK], at[PHASE], at[AGREED] = tick, phase, agreed
                    return False
            if phase == RECEIVE:
                if shared:
                    end_meeting(node)
                now = _lap(spent, np.int64(_EXCHANGED), now)
                receive(*receive_arguments)
                if now:
                    _lap(spent, np.int64(_RECEIVED), now)
                    spent[TIMED] += 1
                at[DONE], phase = 0, MAKE_ROWS
            if makes_rows:
                done = make_all_rows(table, batch, at[DONE])
                if done < batch.hash.size:
                    at[TICK], at[PHASE], at[AGREED], at[DONE] = tick, phase, agreed, done
                    return True
            phase = STEP
        at[TICK], at[PHASE], at[AGREED] = tick, phase, agreed
        return False

    return ticks
