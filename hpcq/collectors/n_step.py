"""Returns of several steps, from the window of each environment's last transitions.

    n steps           G(k) = r_1 + gamma r_2 + ... + gamma^(k-1) (r_k + gamma v_k)
    lambda-return     (1 - lambda) sum_(k < h) lambda^(k-1) G(k) + lambda^(h-1) G(h)

v_k is the bootstrap value of the state after k steps, as it was at that tick. The return ends
after h steps: at most n, fewer at the end of the episode (v = 0 if terminated) or, if the rule cuts
traces, at the first action that is not greedy. With lambda = 1 it is the h-step return. It is
computed backwards: G = r + gamma ((1 - lambda) v + lambda G'). Sutton and Barto, "Reinforcement
Learning", 2018, equations 7.1, 12.9 and section 12.10.

A transition becomes an update when its return is complete: the oldest one in each tick while the
window is full, all of them where the episode ends or the trace is cut.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import Outcome
from hpcq.collectors.grouping import take
from hpcq.collectors.returns import ReturnKernels
from hpcq.hashing import owner
from hpcq.jit.compiler import inlined
from hpcq.spaces.mask_kernels import mask_writers

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)


@inlined
def _count_updates(batch: Any, windows: Any, ranks: np.uint64, counts: NDArray[np.uint64]) -> None:
    for rank in range(counts.size):
        counts[rank] = 0
    for i in range(windows.due.size):
        for j in range(windows.due[i]):
            take(counts, owner(windows.hash[i, j], ranks))


@inlined
def _form_updates(batch: Any, mean: float) -> None:
    # `add_transition` has already written the updates.
    pass


def make_kernels(mask_words: int, cuts_traces: bool) -> ReturnKernels:
    """Return the kernels of returns of several steps; see `messages.kernels` for the arguments.

    mask_words   uint64 of a mask; 0 where there are none
    """
    put_mask, send_mask, _ = mask_writers(mask_words)

    @inlined
    def write_updates(
        batch: Any,
        windows: Any,
        ranks: np.uint64,
        sent: NDArray[np.int64],
        cursors: NDArray[np.uint64],
        outbox: Any,
    ) -> None:
        for i in range(windows.due.size):
            for j in range(windows.due[i]):
                update = outbox[take(cursors, owner(windows.hash[i, j], ranks))]
                update.hash = windows.hash[i, j]
                update.target = windows.target[i, j]
                update.column = windows.action[i, j] + windows.offset[i]
                if mask_words:
                    send_mask(update, windows.mask[i, j])

    @inlined
    def add_transition(
        batch: Any,
        windows: Any,
        i: Any,
        outcome: Any,
        value: Any,
        greedy: Any,
        offset: Any,
        discount: float,
        decay: float,
        mean: float,
    ) -> None:
        sent, steps = np.int64(windows.due[i]), windows.hash.shape[1]
        length = np.int64(windows.length[i]) - sent
        if sent > 0:
            for k in range(length):
                windows.hash[i, k] = windows.hash[i, k + sent]
                windows.action[i, k] = windows.action[i, k + sent]
                windows.reward[i, k] = windows.reward[i, k + sent]
                windows.value[i, k] = windows.value[i, k + sent]
                put_mask(windows.mask, (i, k), windows.mask[i, k + sent])
        due = np.int64(0)
        if outcome != _RESET:
            windows.hash[i, length] = batch.hash[i]
            windows.action[i, length] = batch.action[i]
            windows.reward[i, length] = batch.reward[i] - mean
            windows.value[i, length] = 0.0 if outcome == _TERMINATED else value
            put_mask(windows.mask, (i, length), batch.mask[i])
            length += 1
            if outcome != _CONTINUES or (cuts_traces and not greedy):
                due = length
            elif length == steps:
                due = np.int64(1)
            if due > 0:
                total = windows.reward[i, length - 1] + discount * windows.value[i, length - 1]
                windows.target[i, length - 1] = total
                for k in range(length - 2, -1, -1):
                    mixed = (1.0 - decay) * windows.value[i, k] + decay * total
                    total = windows.reward[i, k] + discount * mixed
                    windows.target[i, k] = total
        if outcome == _TRUNCATED:
            # Unused with n-step returns; written only to keep checkpoints byte-identical.
            batch.update_target[i], batch.update_column[i] = value, offset
        windows.offset[i] = offset
        windows.length[i] = length
        windows.due[i] = due

    return ReturnKernels(_count_updates, write_updates, add_transition, _form_updates)
