"""Returns of one step: what `messages.pack` and `messages.receive` do with them, as templates.

    r + gamma v

Every environment has one update in a tick; after a reset it is one of nothing. If all are, as in
evaluations, none is sent. See windows.py for several steps.
"""

import numpy as np

from hpcq.collectors.outcome import Outcome
from hpcq.exchange.base import UPDATES
from hpcq.exchange.records import NO_COLUMN
from hpcq.hashing import owner
from hpcq.jit.compiler import template

_TERMINATED, _RESET = int(Outcome.TERMINATED), int(Outcome.RESET)


@template
def count_updates(batch, windows, ranks, counts):
    """Write how many go to each rank into `counts`, uint64 (ranks,)."""
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


@template
def write_updates(batch, windows, ranks, sent, cursors, outbox):
    """Write them; those of each rank begin where its cursor, uint64 (ranks,), is."""
    end = np.uint64(0)
    for rank in range(cursors.size):
        first, on = end, cursors[rank] - end
        end += np.uint64(sent[rank, UPDATES])
        for k in range(first, end):
            i = np.uint64(batch.update_order[k])
            update = outbox[k + on]
            update.hash = batch.update_hash[i]
            update.target = batch.update_target[i]
            update.column = batch.update_action[i] if batch.update_pending[i] else NO_COLUMN
            set_mask(update, batch.update_mask[i])
            set_weight(update, batch.update_weight[i])


@template
def remember(batch, windows, i, outcome, value, greedy, offset, discount, decay):
    """Keep what is read from one reply; `form_updates` does the rest."""
    batch.update_action[i] = batch.action[i] + offset
    batch.update_target[i] = value


@template
def form_updates(batch, discount):
    """Make the updates of all environments: loops that become vector instructions."""
    for i in range(batch.update_pending.size):
        batch.update_pending[i] = batch.outcome[i] != _RESET
    for i in range(batch.update_target.size):
        bootstrap = discount * batch.update_target[i]
        bootstrap = 0.0 if batch.outcome[i] == _TERMINATED else bootstrap
        target = batch.reward[i] + bootstrap
        batch.update_target[i] = 0.0 if batch.outcome[i] == _RESET else target
    for i in range(batch.update_hash.size):
        batch.update_hash[i] = batch.hash[i]
    if MASKED:
        for i in range(batch.update_mask.size):
            batch.update_mask[i] = batch.mask[i]
