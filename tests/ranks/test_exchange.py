import numpy as np
import pytest

from hpcq.exchange import FLAGS, QUERIES, UPDATES, Exchange
from hpcq.rules import record_types

pytestmark = pytest.mark.mpi


def fill(exchange, rank, counts):
    """Number the messages: hash = source * 1e6 + destination * 1e3 + place, updates first."""
    at = 0
    for to, (updates, queries) in enumerate(counts):
        exchange.sent[to, :2] = updates, queries
        for place in range(updates + queries):
            exchange.outbox[at]["hash"] = rank * 1_000_000 + to * 1000 + place
            at += 1


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pattern", ["random", "one owner", "one source", "nothing"])
def test_records_come_in_source_order_and_replies_go_back(group, pattern, dtype):
    counts = plan(group.size, pattern)
    mine = counts[group.rank]
    most = int(counts.sum(axis=(1, 2)).max())
    message, reply = record_types(dtype)
    exchange = Exchange(group, message, reply, most, most)
    for repeat in range(3):
        fill(exchange, group.rank, mine)
        flags = exchange.send(1 << group.rank if repeat == 1 else 0)
        assert flags == (2**group.size - 1 if repeat == 1 else 0)
        assert np.array_equal(exchange.received[:, [UPDATES, QUERIES]], counts[:, group.rank])
        expected = [
            source * 1_000_000 + group.rank * 1000 + place
            for source in range(group.size)
            for place in range(counts[source, group.rank].sum())
        ]
        assert exchange.inbox["hash"][: len(expected)].tolist() == expected
        # Reply to each query with its own number.
        at = n = 0
        for source in range(group.size):
            updates, queries = counts[source, group.rank]
            for place in range(updates, updates + queries):
                exchange.replies_out[n]["value"] = expected[at + place] % 4096
                exchange.replies_out[n]["action"] = expected[at + place]
                n += 1
            at += updates + queries
        exchange.reply()
        wanted = [
            group.rank * 1_000_000 + to * 1000 + mine[to, 0] + place
            for to in range(group.size)
            for place in range(mine[to, 1])
        ]
        assert exchange.replies_in["action"][: len(wanted)].tolist() == wanted
        assert exchange.replies_in["value"][: len(wanted)].tolist() == [w % 4096 for w in wanted]
    assert (exchange.sent[:, FLAGS] == 0).all()
    exchange.free()
