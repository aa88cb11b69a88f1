"""One-step returns: G = r + gamma v, with v = 0 if the step terminated the episode.

Every environment has one update per tick; after a reset it is empty. If all are empty, as in
evaluations, none is sent. See n_step.py for returns of several steps.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors.batch import Outcome
from hpcq.collectors.grouping import group, occurs
from hpcq.collectors.returns import ReturnKernels
from hpcq.exchange.base import UPDATES
from hpcq.exchange.records import NO_COLUMN
from hpcq.hashing import owner
from hpcq.jit.compiler import inlined
from hpcq.spaces.mask_kernels import mask_writers

_TERMINATED, _RESET = int(Outcome.TERMINATED), int(Outcome.RESET)


@inlined
def _count_updates(batch: Any, windows: Any, ranks: np.uint64, counts: NDArray[np.uint64]) -> None:
    if not occurs(batch.update_pending, True):
        for rank in range(counts.size):
            counts[rank] = 0
        return
    for i in range(batch.update_owner.size):
        batch.update_owner[i] = owner(batch.update_hash[i], ranks)
    group(batch.update_owner, batch.update_order, counts)
    start = np.uint64(0)
    for rank in range(counts.size):
        counts[rank], start = counts[rank] - start, counts[rank]


@inlined
def _add_transition(
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
    batch.update_column[i] = batch.action[i] + offset
    batch.bootstrap[i] = discount * value


def make_kernels(mask_words: int, weighted: bool) -> ReturnKernels:
    """Return the kernels of one-step returns; see `messages.kernels` for the arguments.

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
        end = np.uint64(0)
        for rank in range(cursors.size):
            first, on = end, cursors[rank] - end
            end += np.uint64(sent[rank, UPDATES])
            for k in range(first, end):
                env = np.uint64(batch.update_order[k])
                update = outbox[k + on]
                update.hash = batch.update_hash[env]
                update.target = batch.update_target[env]
                update.column = batch.update_column[env] if batch.update_pending[env] else NO_COLUMN
                if mask_words:
                    send_mask(update, batch.update_mask[env])
                if weighted:
                    update.weight = batch.update_weight[env]

    @inlined
    def form_updates(batch: Any, mean: float) -> None:
        # One loop per field: each vectorises.
        for i in range(batch.update_pending.size):
            batch.update_pending[i] = batch.outcome[i] != _RESET
        for i in range(batch.update_target.size):
            bootstrap = 0.0 if batch.outcome[i] == _TERMINATED else batch.bootstrap[i]
            target = batch.reward[i] - mean + bootstrap
            batch.update_target[i] = 0.0 if batch.outcome[i] == _RESET else target
        for i in range(batch.update_hash.size):
            batch.update_hash[i] = batch.hash[i]
        if mask_words:
            for i in range(batch.update_mask.shape[0]):
                put_mask(batch.update_mask, i, batch.mask[i])

    return ReturnKernels(_count_updates, write_updates, _add_transition, form_updates)
