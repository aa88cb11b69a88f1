"""The scaling model against sums done by hand."""

import pytest

from hpcq.bench.model import Machine, flat_tick, nodes_tick, predict, recommend

# 10 ns, 40 bytes; 2 us and 10 GB/s between nodes; 1 us and 5 GB/s within; 4 ranks to a node.
MACHINE = Machine(10e-9, 40.0, 2e-6, 10e9, 1e-6, 5e9, 4)


def test_one_rank_has_nothing_to_send():
    assert flat_tick(MACHINE, 1, 1000) == pytest.approx(10e-6)
    assert nodes_tick(MACHINE, 1, 1000) == pytest.approx(10e-6)


def test_one_node_worked_by_hand():
    # 10 us of work; 3 phases of 3 messages of 1 us; 3 peers x 250 x 40 bytes at 5 GB/s = 6 us.
    assert flat_tick(MACHINE, 4, 1000) == pytest.approx(10e-6 + 9e-6 + 6e-6)
    # Two barriers of log2(4) = 2 steps of 1 us; no copies.
    assert nodes_tick(MACHINE, 4, 1000) == pytest.approx(10e-6 + 4e-6)


def test_three_nodes_worked_by_hand():
    # 12 ranks: 3 local peers, 8 remote; 40 kB in 12 parts; the node's network is shared by 4 ranks.
    part = 40_000 / 12
    flat = 10e-6 + 3 * (3e-6 + 16e-6) + 3 * part / 5e9 + 8 * part * 4 / 10e9
    assert flat_tick(MACHINE, 12, 1000) == pytest.approx(flat)
    remote = 8 * part
    nodes = 10e-6 + 4e-6 + 3 * 2 * 2e-6 + remote * 4 / 10e9 + 2 * remote / 5e9
    assert nodes_tick(MACHINE, 12, 1000) == pytest.approx(nodes)


def test_the_prediction_covers_1_to_16384_ranks_and_never_exceeds_perfect():
    found = predict(MACHINE, 1000)
    assert [row["ranks"] for row in found] == [2**k for k in range(15)]
    assert found[0]["nodes"] == pytest.approx(1e8)
    for row in found:
        assert row["flat"] <= row["ranks"] * 1e8 * 1.0001
        assert 0 < row["efficiency"] <= 1.0001


def test_more_ranks_ask_for_more_environments_each():
    each = [recommend(MACHINE, ranks, 32) / ranks for ranks in (4, 64, 4096)]
    assert each == sorted(each)
    # 4096 ranks on 1024 nodes: 3 x 1023 x 2 us and more, ten times that at 10 ns is above 2**22.
    assert each[-1] >= 2**22
