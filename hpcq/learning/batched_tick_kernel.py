"""Many ticks of several batches in one compiled call, where messages go through memory alone.

The kernel of one batch's ticks returns where it would wait for other ranks; meanwhile the next
batch goes on. The order is that of batched_ticks.py, and so is the table.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.jit.atomics import clock_ns
from hpcq.jit.compiler import kernel
from hpcq.job.scheduled import Terms
from hpcq.learning.tick_kernel import AGREED, TIMED, TURNED
from hpcq.table.hash_table import ROWS, Table

# Columns of `state`:
#   ALL_TICK    the tick that is done, or going on
#   STAGE       what the batches do: one of those below
#   BATCH       which of them is next; their number: all have done it
#   ALL_AGREED  the flags of all ranks in the last tick, or-ed
#   MINE        the flags that this rank sends with this tick
ALL_TICK, STAGE, BATCH, ALL_AGREED, MINE = range(5)
COLUMNS = 5
SENDING, WORKING, TAKING = range(3)

_NEVER = np.iinfo(np.int64).max


@functools.cache
def make_batched_ticks(ticks: Any) -> Any:
    """Return the kernel that does ticks until something has to be done in Python.

    Parameters
    ----------
    ticks
        the kernel of one batch, which returns where it would wait; see `tick_kernel.make_ticks`.
    """

    @kernel
    def batched_ticks(
        state: NDArray[np.int64],
        where: NDArray[np.int32],
        last: int,
        flags: int,
        pause: int,
        until: int,
        most_rows: int,
        full: int,
        environments: int,
        spent: NDArray[np.int64],
        table: Table,
        learning_rate: Terms,
        parameter: Terms,
        apply_settings: Any,
        batches: Any,
    ) -> bool:
        """Go on from `state`; return whether Python must make room for what its batch does next.

        batches   of each: its `at`, and the arguments of `ticks` that are its own

        The others are those of `ticks`.
        """
        while True:
            if state[BATCH] == len(batches):
                state[BATCH] = 0
                if state[STAGE] == TAKING:
                    return False
                if state[STAGE] == SENDING:
                    state[STAGE] = WORKING
                elif state[ALL_TICK] == last or state[ALL_AGREED]:
                    state[STAGE] = TAKING
                else:
                    state[STAGE] = SENDING
                    state[ALL_TICK] += 1
                    state[MINE] = flags
                    if until > 0 and clock_ns() > until:
                        state[MINE] |= pause
                    if table.state[ROWS] > most_rows:
                        state[MINE] |= full
                    for number in range(len(batches)):
                        batches[number][0][AGREED] = 0
            (
                at,
                step_arguments,
                pack_arguments,
                receive_arguments,
                inbox,
                replies,
                hints,
                newer_hints,
                node,
                packed,
                written,
            ) = batches[state[BATCH]]
            timed = spent[TIMED]
            if at[TURNED]:
                hints, newer_hints = newer_hints, hints
            if ticks(
                at,
                where,
                state[ALL_TICK],
                state[MINE],
                0,
                0,
                _NEVER,
                0,
                environments,
                spent,
                step_arguments,
                pack_arguments,
                receive_arguments,
                table,
                inbox,
                replies,
                hints,
                newer_hints,
                learning_rate,
                parameter,
                apply_settings,
                node,
                packed,
                written,
            ):
                return True
            if state[STAGE] == WORKING:
                state[ALL_AGREED] = at[AGREED]
            if state[BATCH] > 0:
                # One tick, of which each batch has a part.
                spent[TIMED] = timed
            state[BATCH] += 1

    return batched_ticks
