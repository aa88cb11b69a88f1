"""Route records to the ranks that own them, and the replies back.

Each tick every rank packs one array of messages, grouped by owner: for each owner its updates,
then its queries. The owner works through the sources in rank order and through each source's
records in the order in which they were packed; with environments in contiguous blocks per rank
that is environment order, for any number of ranks. Replies come back in the order of the queries,
behind td_error acknowledgements of the updates where these are wanted.

The classes differ in how records travel; what arrives is the same:

    SerialExchange      one rank: the outbox is the inbox; see base.py
    AlltoallvExchange   MPI's Alltoallv between all ranks, the reference; see alltoallv.py
    NodeAwareExchange   shared memory within a node, one message for each pair of a node and a rank
                        between nodes; see node_aware.py

Each can send, or reply, in two steps, with other work between them: while a message travels.
"""

from mpi4py import MPI
from numpy.typing import DTypeLike

from hpcq.exchange.alltoallv import AlltoallvExchange
from hpcq.exchange.base import Exchange, SerialExchange
from hpcq.exchange.node_aware import NodeAwareExchange
from hpcq.mpi import let_sleeps_end_in_time, node_of


def make_exchange(
    comm: MPI.Intracomm,
    message: DTypeLike,
    reply: DTypeLike,
    max_messages: int,
    max_replies: int,
    flat: bool = False,
    node: MPI.Intracomm | None = None,
) -> Exchange:
    """Return the exchange that suits these ranks. Collective.

    Parameters
    ----------
    comm
        the ranks that share the table.
    message, reply
        record types, from `records.record_types`.
    max_messages, max_replies
        the most that this rank sends, and gets back, in one tick.
    flat
        use Alltoallv, even where ranks share a node.
    node
        the ranks of this rank's node; default: as `mpi.node_of` says.
    """
    sizes = (message, reply, max_messages, max_replies)
    if comm.size == 1:
        return SerialExchange(comm, *sizes)
    if not flat:
        group = node if node is not None else node_of(comm)
        exchange = NodeAwareExchange.make(comm, group, *sizes)
        if exchange is not None:
            return exchange
        if node is None:
            group.Free()
    let_sleeps_end_in_time()
    return AlltoallvExchange(comm, *sizes)
