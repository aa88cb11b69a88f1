"""The part of a tick's messages that depends on how returns are computed."""

from typing import NamedTuple

from hpcq.jit.compiler import Kernel


class ReturnKernels(NamedTuple):
    """What one_step.py and n_step.py give to messages.py: kernels that it inlines."""

    count_updates: Kernel
    """count_updates(batch, windows, ranks, counts): write the number of updates for each rank into
    `counts`, uint64 (ranks,)"""
    write_updates: Kernel
    """write_updates(batch, windows, ranks, sent, cursors, outbox): write the updates; those of
    each rank begin at its cursor, uint64 (ranks,)"""
    add_transition: Kernel
    """add_transition(batch, windows, i, outcome, value, greedy, offset, discount, decay, mean):
    learn of the last step of environment `i`, given the value to bootstrap from, whether the next
    action is greedy, the first column of the table to update, and what is subtracted from
    rewards"""
    form_updates: Kernel
    """form_updates(batch, mean): what remains to be done for the updates of all environments"""
