"""Returns of one step: what `messages.pack` and `messages.receive` do with them, as templates.

    r + gamma v

Every environment has one update in a tick, but after a reset none. See windows.py for several
steps.
"""

import numpy as np

from hpcq.collectors.outcome import Outcome
from hpcq.hashing import owner
from hpcq.native.kernels import template

_TERMINATED, _RESET = int(Outcome.TERMINATED), int(Outcome.RESET)


@template
def waiting(actors, windows, i):
    """Return how many updates environment `i` sends."""
    return np.int64(actors.update_pending[i])


@template
def count_updates(actors, windows, ranks, counts):
    """Add to `counts`, uint64 (ranks,), how many go to each rank."""
    for i in range(actors.update_owner.size):
        actors.update_owner[i] = owner(actors.update_hash[i], ranks)
    count_owners(actors.update_owner, counts)
    if occurs(actors.update_pending, False):
        for i in range(actors.update_pending.size):
            counts[actors.update_owner[i]] -= np.uint64(not actors.update_pending[i])


@template
def waiting_owner(actors, windows, i, j, ranks):
    """Return the rank that owns the state of the `j`-th of them."""
    return actors.update_owner[i]


@template
def write_update(actors, windows, i, j, update):
    """Write the `j`-th of them."""
    update.hash = actors.update_hash[i]
    update.target = actors.update_target[i]
    update.column = actors.update_action[i]
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
