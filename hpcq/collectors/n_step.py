"""Returns of several steps: what every environment keeps of its last transitions.

    n steps           G(k) = r_1 + gamma r_2 + ... + gamma^(k-1) (r_k + gamma v_k)
    lambda-return     (1 - lambda) sum_(k < h) lambda^(k-1) G(k) + lambda^(h-1) G(h)

v_k is the bootstrap value in the state after k steps, as it was answered then, and h where the
return ends: after n steps, at the end of the episode (v = 0 if terminated), or, if the rule cuts
there, at the first action that is not greedy. With lambda = 1 it is the return of h steps.
Computed from behind: G = r + gamma ((1 - lambda) v + lambda G'). Sutton and Barto, "Reinforcement
Learning", 2018, equations 7.1, 12.9 and section 12.10.

A transition becomes an update when its return is complete: one in a tick as long as the window is
full and the episode goes on, all of them where it ends or is cut.
"""

import numpy as np

from hpcq.collectors.outcome import Outcome
from hpcq.hashing import owner
from hpcq.jit.compiler import template

_CONTINUES, _TERMINATED, _RESET = (
    int(outcome) for outcome in (Outcome.CONTINUES, Outcome.TERMINATED, Outcome.RESET)
)


# What `messages.pack` and `messages.receive` do with windows; single.py has it for one step.


@template
def count_updates(batch, windows, ranks, counts):
    """Write how many go to each rank into `counts`, uint64 (ranks,)."""
    for rank in range(counts.size):
        counts[rank] = 0
    for i in range(windows.due.size):
        for j in range(windows.due[i]):
            take(counts, owner(windows.hash[i, j], ranks))


@template
def write_updates(batch, windows, ranks, sent, cursors, outbox):
    """Write them; those of each rank begin where its cursor, uint64 (ranks,), is."""
    for i in range(windows.due.size):
        for j in range(windows.due[i]):
            update = outbox[take(cursors, owner(windows.hash[i, j], ranks))]
            update.hash = windows.hash[i, j]
            update.target = windows.target[i, j]
            update.column = windows.action[i, j] + windows.offset[i]
            set_mask(update, windows.mask[i, j])


@template
def remember(batch, windows, i, outcome, value, greedy, offset, discount, decay):
    """Add a transition, and compute the returns that are complete now."""
    gone, steps = np.int64(windows.due[i]), windows.hash.shape[1]
    length = np.int64(windows.length[i]) - gone
    if gone > 0:
        for k in range(length):
            windows.hash[i, k] = windows.hash[i, k + gone]
            windows.action[i, k] = windows.action[i, k + gone]
            windows.reward[i, k] = windows.reward[i, k + gone]
            windows.value[i, k] = windows.value[i, k + gone]
            windows.mask[i, k] = windows.mask[i, k + gone]
    due = 0
    if outcome != _RESET:
        windows.hash[i, length] = batch.hash[i]
        windows.action[i, length] = batch.action[i]
        windows.reward[i, length] = batch.reward[i]
        windows.value[i, length] = 0.0 if outcome == _TERMINATED else value
        windows.mask[i, length] = batch.mask[i]
        length += 1
        if outcome != _CONTINUES or (CUTS and not greedy):
            due = length
        elif length == steps:
            due = 1
        if due > 0:
            total = windows.reward[i, length - 1] + discount * windows.value[i, length - 1]
            windows.target[i, length - 1] = total
            for k in range(length - 2, -1, -1):
                mixed = (1.0 - decay) * windows.value[i, k] + decay * total
                total = windows.reward[i, k] + discount * mixed
                windows.target[i, k] = total
    windows.offset[i] = offset
    windows.length[i] = length
    windows.due[i] = due


@template
def form_updates(batch, discount):
    """Do nothing: `remember` has."""
