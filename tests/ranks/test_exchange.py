from pathlib import Path

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
    "small pieces",
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
        "small pieces": comm.rank // 2,
    }[routing]
    node = comm.Split(color, comm.rank)
    pieces = {"piece_bytes": 200} if routing == "small pieces" else {}
    return NodeAwareExchange.make(comm, node, *sizes, **pieces), node


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


def answer(exchange, rank, counts, acks):
    """Check the messages to this rank; reply to each query, or message, with its own number."""
    inbox, replies = exchange.inbox, exchange.replies
    assert np.array_equal(inbox.counts[:, [UPDATES, QUERIES]], counts[:, rank])
    for source, (updates, queries) in enumerate(counts[:, rank]):
        remote, start = inbox.is_remote[source], inbox.starts[source]
        box = (inbox.remote if remote else inbox.local)["hash"]
        found = box[start : start + updates + queries]
        first = source * 1_000_000 + rank * 1000
        assert found.tolist() == list(range(first, first + updates + queries))
        start, asked = replies.starts[source], found[0 if acks else updates :]
        out = (replies.remote if remote else replies.local)[start : start + asked.size]
        out["value"], out["action"] = asked, asked % 65_536


def check_replies(exchange, rank, mine, acks):
    wanted = [
        rank * 1_000_000 + to * 1000 + place
        for to, (updates, queries) in enumerate(mine)
        for place in range(0 if acks else updates, updates + queries)
    ]
    found = exchange.replies_in[: len(wanted)]
    assert found["value"].tolist() == wanted
    assert found["action"].tolist() == [w % 65_536 for w in wanted]


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
        answer(exchange, group.rank, counts, acks)
        exchange.reply()
        check_replies(exchange, group.rank, mine, acks)
    exchange.free()
    if node is not None:
        node.Free()


@pytest.mark.parametrize("routing", ROUTINGS)
def test_two_exchanges_are_under_way_at_once(group, routing):
    """As in ticks of two batches: a step of one begins before that of the other has ended."""
    random = plan(group.size, "random")
    both = [(random, False), (random[::-1], True)]
    most = int(random.sum(axis=(1, 2)).max())
    made = [build(routing, group, np.float64, most) for _ in both]
    for repeat in range(3):
        for (exchange, _), (counts, acks) in zip(made, both, strict=True):
            if repeat:
                exchange.finish_reply()
                check_replies(exchange, group.rank, counts[group.rank], acks)
            fill(exchange, group.rank, counts[group.rank], acks)
            exchange.start_send(1 << group.rank)
        for (exchange, _), (counts, acks) in zip(made, both, strict=True):
            assert exchange.finish_send() == 2**group.size - 1
            answer(exchange, group.rank, counts, acks)
            exchange.start_reply()
    for exchange, node in made:
        exchange.finish_reply()
        exchange.free()
        if node is not None:
            node.Free()


def test_who_waits_for_the_network_sleeps_no_longer_than_asked(comm):
    if comm.size > 1:
        build("flat", comm, np.float64, 1)[0].free()
        assert Path("/proc/self/timerslack_ns").read_text().strip() == "1"
