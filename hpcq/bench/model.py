"""Predict the rate on more ranks than there are, from measurements on a few.

A tick of n environments per rank takes

    n t + 3 (messages per phase) alpha + n b (P - 1) / P / beta

with t the measured time of a transition without its exchange, alpha the time of one message, b
the bytes of a transition on the wire and beta the bandwidth of a rank. Flat, a rank sends P - 1
messages in each of the three phases; by nodes, one to each other node, two barriers, and every
byte that leaves the node is copied twice more. It is the postal model (Bar-Noy, Kipnis, "Designing
broadcasting algorithms in the postal model", SPAA 1992) with a bandwidth; no contention, no
imbalance: a bound from above.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANKS = tuple(2**k for k in range(15))
PHASES = 3


@dataclass(frozen=True)
class Machine:
    """What the prediction is made from. Times in seconds, bandwidths in bytes per second."""

    transition: float
    """one transition on one rank, all but its exchange"""
    wire_bytes: float
    """of one transition, were every owner another rank"""
    latency: float
    """of one message between nodes"""
    bandwidth: float
    """of one node's network"""
    local_latency: float
    """of one message, or one step of a barrier, within a node"""
    local_bandwidth: float
    """of copying within a node, one rank"""
    ranks_per_node: int


def flat_tick(machine: Machine, ranks: int, environments: int) -> float:
    """Return the seconds of a tick with Alltoallv, `environments` on each rank."""
    on_node = min(ranks, machine.ranks_per_node)
    local, remote = on_node - 1, ranks - on_node
    bytes_each = environments * machine.wire_bytes / ranks
    return (
        environments * machine.transition
        + PHASES * (local * machine.local_latency + remote * machine.latency)
        + local * bytes_each / machine.local_bandwidth
        + remote * bytes_each * on_node / machine.bandwidth
    )


def nodes_tick(machine: Machine, ranks: int, environments: int) -> float:
    """Return the seconds of a tick through shared memory and forwarders."""
    on_node = min(ranks, machine.ranks_per_node)
    nodes = -(-ranks // machine.ranks_per_node)
    remote_bytes = environments * machine.wire_bytes * (ranks - on_node) / ranks
    return (
        environments * machine.transition
        + 2 * math.ceil(math.log2(on_node)) * machine.local_latency
        + PHASES * (nodes - 1) * machine.latency
        + remote_bytes * on_node / machine.bandwidth
        + 2 * remote_bytes / machine.local_bandwidth
    )


def predict(machine: Machine, environments: int) -> list[dict[str, Any]]:
    """Return transitions per second for 1 to 16,384 ranks, `environments` on each."""
    found = []
    for ranks in RANKS:
        flat, nodes = (
            ranks * environments / tick(machine, ranks, environments)
            for tick in (flat_tick, nodes_tick)
        )
        alone = environments * machine.transition
        found.append(
            {
                "ranks": ranks,
                "flat": flat,
                "nodes": nodes,
                "efficiency": nodes * alone / (ranks * environments),
            }
        )
    return found


def cache_bytes() -> int:
    """Return the size of this core's second-level cache, 1 MiB where the system does not say."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "level").read_text().strip() == "2":
            return int((index / "size").read_text().strip().removesuffix("K")) << 10
    return 1 << 20


def recommend(machine: Machine, ranks: int, row_bytes: int) -> int:
    """Return the number of environments to use on so many ranks, a power of two per rank.

    Messages then cost at most a tenth of a tick. Beyond that, no more than keep the rows of two
    ticks and the environments' own arrays in the cache.
    """
    waiting = nodes_tick(machine, ranks, 1) - machine.transition
    enough = 10 * waiting / machine.transition
    # A row is read when its state is entered, and updated two ticks later. An environment's arrays
    # take 160 bytes.
    fitting = cache_bytes() / (2 * max(64, row_bytes) + 160)
    return ranks * 2 ** max(4, round(math.log2(max(enough, fitting))))


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the prediction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    ranks = [row["ranks"] for row in found]
    first = found[0]["nodes"]
    axes.loglog(ranks, [first * r for r in ranks], ":", color="0.6", label="perfect")
    axes.loglog(ranks, [row["nodes"] for row in found], "o-", label="by nodes")
    axes.loglog(ranks, [row["flat"] for row in found], "s-", label="flat Alltoallv")
    axes.set(xlabel="ranks", ylabel="transitions per second", title="Predicted, not measured")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
