"""Returns of one step: what `messages.pack` and `messages.receive` do with them, as templates.

    r + gamma v

Every environment has one update in a tick; after a reset it is one of nothing. If all are, as in
evaluations, none is sent. See windows.py for several steps.
"""

import numpy as np

from hpcq.collectors.outcome import Outcome
from hpcq.exchange.mail import UPDATES
from hpcq.exchange.records import NO_COLUMN
from hpcq.hashing import owner
from hpcq.native.kernels import template

_TERMINATED, _RESET = int(Outcome.TERMINATED), int(Outcome.RESET)


@template
def count_updates(actors, windows, ranks, counts):
    """Write how many go to each rank into `counts`, uint64 (ranks,)."""
    if not occurs(actors.update_pending, True):
        for rank in range(counts.size):
            counts[rank] = 0
        return
    for i in range(actors.update_owner.size):
        actors.update_owner[i] = owner(actors.update_hash[i], ranks)
    group(actors.update_owner, actors.update_order, counts)
    start = np.uint64(0)
    for rank in range(counts.size):
        counts[rank], start = counts[rank] - start, counts[rank]


@template
def write_updates(actors, windows, ranks, sent, cursors, outbox):
    """Write them; those of each rank begin where its cursor, uint64 (ranks,), is."""
    end = np.uint64(0)
    for rank in range(cursors.size):
        first, on = end, cursors[rank] - end
        end += np.uint64(sent[rank, UPDATES])
        for k in range(first, end):
            i = np.uint64(actors.update_order[k])
            update = outbox[k + on]
            update.hash = actors.update_hash[i]
            update.target = actors.update_target[i]
            update.column = actors.update_action[i] if actors.update_pending[i] else NO_COLUMN
            set_mask(update, actors.update_mask[i])
            set_weight(update, actors.update_weight[i])


@template
def remember(actors, windows, i, outcome, value, greedy, offset, discount, decay):
    """Keep what is read from one reply; `form_updates` does the rest."""
    actors.update_action[i] = actors.action[i] + offset
    actors.update_target[i] = value


@template
def form_updates(actors, discount):
    """Make the updates of all environments: loops that become vector instructions."""
    for i in range(actors.update_pending.size):
        actors.update_pending[i] = actors.outcome[i] != _RESET
    for i in range(actors.update_target.size):
        bootstrap = discount * actors.update_target[i]
        bootstrap = 0.0 if actors.outcome[i] == _TERMINATED else bootstrap
        target = actors.reward[i] + bootstrap
        actors.update_target[i] = 0.0 if actors.outcome[i] == _RESET else target
    for i in range(actors.update_hash.size):
        actors.update_hash[i] = actors.hash[i]
    if MASKED:
        for i in range(actors.update_mask.size):
            actors.update_mask[i] = actors.mask[i]
