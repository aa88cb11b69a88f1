"""Rounds of asynchronous mode in one compiled call, for the ranks of a node.

In a round a rank steps its parts as their replies come, answers what others ask, and adds what it
did to the sum of all. A round is over when every rank has; then all go on to the next.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.exchange.mailboxes import (
    FLAGS,
    STEPS,
    Mailboxes,
    answered,
    has_come_to,
    listen,
    post,
    ring,
)
from hpcq.jit.atomics import clock_ns, load, store
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.memory import fence
from hpcq.learning import answering
from hpcq.table.hash_table import ROWS

# Columns of `at`, where a rank is:
#   ROUND    rounds that are over
#   POSTED   whether this rank has added its part to the next one
#   OWN      its steps so far
#   BEGUN    its steps when the last round was over
#   TOTAL    the steps of all by then
#   NEXT     the part whose turn it is
#   AGREED   the flags of all in the last round, or-ed
ROUND, POSTED, OWN, BEGUN, TOTAL, NEXT, AGREED = range(7)
COLUMNS = 7

# Rows of `states`: the last tick of each part, its requests posted, whether it waits for replies,
# the ticks that it may take in this round, those that it took since its rank last added its part,
# and its environments.
TICKS, NUMBERS, WAITS, BUDGET, AHEAD, SIZE = range(6)
ROWS_OF_PARTS = 6

# What another thread sees.
STEPPING, EXCHANGING = 0, 1

_LISTEN_NS = 100_000_000


@inlined
def add_to_round(boxes: Mailboxes, number: int, steps: int, flags: int) -> None:
    """Add the steps so far and the flags of this rank to a round, and ring the others' bells."""
    boxes.rounds[number & 1, boxes.rank, STEPS] = steps
    boxes.rounds[number & 1, boxes.rank, FLAGS] = flags
    fence()
    store(boxes.round_epochs, boxes.rank, np.int32(number))
    for rank in range(boxes.ranks):
        if rank != boxes.rank:
            ring(boxes.bells, rank)


@inlined
def is_over(boxes: Mailboxes, number: int) -> bool:
    """Return whether all ranks have added to a round."""
    for rank in range(boxes.ranks):
        if not has_come_to(boxes.round_epochs, rank, number):
            return False
    return True


@functools.cache
def make_rounds(step: Any, pack: Any, receive: Any, serve: Any) -> Any:
    """Return the kernel that does rounds until something has to be done in Python."""

    @kernel
    def rounds(
        at: NDArray[np.int64],
        where: NDArray[np.int32],
        last: int,
        horizon: int,
        flags: int,
        pause: int,
        until: int,
        most_rows: int,
        full: int,
        environments: int,
        staleness: int,
        boxes: Mailboxes,
        states: NDArray[np.int64],
        parts: Any,
        serve_arguments: Any,
    ) -> bool:
        """Go on; return whether the table must grow.

        where          int32 (1, LINE), out: `STEPPING` or `EXCHANGING`, for another thread to see
        last           the tick at which to return, as steps of all
        horizon        the tick beyond which all together should not go
        flags, pause, until, most_rows, full, environments
                       see `tick_kernel`; rounds end where any rank has flags
        staleness      ticks that a part may take in a round
        states         int64 (6, parts): TICKS to SIZE, in and out
        parts          of each part the arguments of `step`, `pack` and `receive`, and its messages
                       as uint64
        """
        serving_at, table = serve_arguments[0], serve_arguments[3]
        while True:
            heard = load(boxes.bells, boxes.rank)
            found = serve(*serve_arguments)
            if found < 0:
                return True
            for i in range(states.shape[1]):
                part = (at[NEXT] + i) % states.shape[1]
                if states[WAITS, part] and not answered(boxes, part, states[NUMBERS, part]):
                    continue
                step_arguments, pack_arguments, receive_arguments, packed = parts[part]
                if states[WAITS, part]:
                    receive(*receive_arguments)
                    states[WAITS, part] = 0
                    found += 1
                if states[BUDGET, part] > 0:
                    states[TICKS, part] += 1
                    store(where, 0, np.int32(STEPPING))
                    step(states[TICKS, part], *step_arguments)
                    store(where, 0, np.int32(EXCHANGING))
                    pack(states[TICKS, part], *pack_arguments)
                    states[NUMBERS, part] += 1
                    post(boxes, part, states[NUMBERS, part], packed, pack_arguments[5], 0)
                    states[WAITS, part] = 1
                    states[BUDGET, part] -= 1
                    states[AHEAD, part] += 1
                    at[OWN] += states[SIZE, part]
                    at[NEXT] = (part + 1) % states.shape[1]
                    found += 1
                    break
            # A rank adds to a round what its parts did in a tick each, or when it cannot go on.
            done = at[OWN] - at[BEGUN] >= states[SIZE].sum()
            if not at[POSTED] and (done or found == 0):
                mine = flags
                if until > 0 and clock_ns() > until:
                    mine |= pause
                if table.state[ROWS] > most_rows:
                    mine |= full
                add_to_round(boxes, at[ROUND] + 1, at[OWN], mine)
                at[POSTED] = 1
                for part in range(states.shape[1]):
                    states[AHEAD, part] = 0
            if at[POSTED] and is_over(boxes, at[ROUND] + 1):
                at[ROUND] += 1
                total, agreed = 0, 0
                for rank in range(boxes.ranks):
                    total += boxes.rounds[at[ROUND] & 1, rank, STEPS]
                    agreed |= boxes.rounds[at[ROUND] & 1, rank, FLAGS]
                at[POSTED], at[BEGUN], at[TOTAL], at[AGREED] = 0, at[OWN], total, agreed
                serving_at[answering.STEPS] = total
                # All together do not go beyond the horizon: what a part is ahead of the sum counts.
                left = max(1, horizon - total // environments)
                for part in range(states.shape[1]):
                    states[BUDGET, part] = min(staleness, left - states[AHEAD, part])
                if agreed or total // environments >= last:
                    return False
            elif found == 0:
                listen(boxes.bells, boxes.rank, heard, boxes.look_ns, _LISTEN_NS)

    return rounds
