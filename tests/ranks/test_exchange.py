import numpy as np
import pytest

from hpcq.exchange import make_exchange
from hpcq.exchange.alltoallv import AlltoallvExchange
from hpcq.exchange.base import ACKS, QUERIES, REPLIES_AT, START, UPDATES
from hpcq.exchange.node_aware import NodeAwareExchange
from hpcq.exchange.records import record_types

pytestmark = pytest.mark.mpi

ROUTINGS = [
    "flat",
    "flat, small rounds",
    "one node",
    "nodes of 2",
    "nodes of 1 and 2",
    "round robin",
]


def build(routing, comm, dtype, most):
    """An exchange by one routing; nodes are simulated by splitting the communicator."""
    sizes = (*record_types(dtype), most, most)
    if routing == "flat":
        return make_exchange(comm, *sizes, flat=True), None
    if routing == "flat, small rounds":
        return AlltoallvExchange(comm, *sizes, round_bytes=100), None
    color = {
        "one node": 0,
        "nodes of 2": comm.rank // 2,
        "nodes of 1 and 2": (comm.rank + 1) // 2,
        "round robin": comm.rank % 2,
    }[routing]
    node = comm.Split(color, comm.rank)
    return NodeAwareExchange.make(comm, node, *sizes), node


def fill(exchange, rank, counts, acks):
    """Number the messages: hash = source * 1e6 + destination * 1e3 + place, updates first."""
    at = replies = 0
    for to, (updates, queries) in enumerate(counts):
        exchange.sent[to, [UPDATES, QUERIES]] = updates, queries
        exchange.sent[to, [ACKS, START, REPLIES_AT]] = updates * acks, at, replies
        for place in range(updates + queries):
            exchange.outbox[at]["hash"] = rank * 1_000_000 + to * 1000 + place
            at += 1
        replies += updates * acks + queries


def plan(size, pattern):
    """Return counts (size, size, 2): what each source sends to each destination."""
    rng = np.random.default_rng(size)
    counts = rng.integers(0, 20, (size, size, 2))
    if pattern == "one owner":
        counts[:, :-1] = 0
    elif pattern == "one source":
        counts[:-1] = 0
    elif pattern == "nothing":
        counts[:] = 0
    return counts


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("pattern", ["random", "one owner", "one source", "nothing"])
def test_records_come_by_source_and_replies_go_back(group, pattern, routing):
    counts = plan(group.size, pattern)
    mine = counts[group.rank]
    dtype = np.float64 if pattern == "random" else np.float32
    exchange, node = build(routing, group, dtype, int(counts.sum(axis=(1, 2)).max()))
    for repeat in range(3):
        # Replies to queries alone, or acknowledgements of all updates before them.
        acks = repeat == 2
        fill(exchange, group.rank, mine, acks)
        flags = exchange.send(1 << group.rank if repeat == 1 else 0)
        assert flags == (2**group.size - 1 if repeat == 1 else 0)
        inbox, replies = exchange.inbox, exchange.replies
        assert np.array_equal(inbox.counts[:, [UPDATES, QUERIES]], counts[:, group.rank])
        for source in range(group.size):
            updates, queries = counts[source, group.rank]
            remote = inbox.is_remote[source]
            start = inbox.starts[source]
            found = (inbox.remote if remote else inbox.local)["hash"][
                start : start + updates + queries
            ]
            first = source * 1_000_000 + group.rank * 1000
            assert found.tolist() == list(range(first, first + updates + queries))
            # Reply to each query, or message, with its own number.
            start, asked = replies.starts[source], found[0 if acks else updates :]
            out = (replies.remote if remote else replies.local)[start : start + asked.size]
            out["value"], out["action"] = asked, asked % 65_536
        exchange.reply()
        wanted = [
            group.rank * 1_000_000 + to * 1000 + place
            for to in range(group.size)
            for place in range(0 if acks else mine[to, 0], mine[to].sum())
        ]
        found = exchange.replies_in[: len(wanted)]
        assert found["value"].tolist() == wanted
        assert found["action"].tolist() == [w % 65_536 for w in wanted]
    exchange.free()
    if node is not None:
        node.Free()
