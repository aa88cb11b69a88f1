"""The ranks of a node meet in two steps, with work between them: see epochs.py."""

from hpcq.exchange.base import Node
from hpcq.exchange.epochs import arrive, await_epoch
from hpcq.jit.compiler import kernel


@kernel
def begin_meeting(node: Node) -> None:
    """Let the ranks of the node see what this one has written. Collective in the node."""
    node.epoch[0] += 1
    arrive(node.epochs, node.member, node.epoch[0])


@kernel
def end_meeting(node: Node) -> None:
    """Wait until all ranks of the node have begun this meeting. Collective in the node."""
    for member in range(node.epochs.shape[0]):
        if member != node.member:
            await_epoch(node.epochs, member, node.epoch[0], node.look_ns)
