"""Many ranks, simulated nodes: the same table, and as few messages as promised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "routed.py"


@pytest.mark.parametrize("ranks", [12])
def test_every_routing_learns_the_same_table(ranks):
    sizes = (3, 4, 5, ranks)
    done = subprocess.run(
        ["mpirun", "-n", str(ranks), sys.executable, SCRIPT, *map(str, sizes)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    found = json.loads(done.stdout)
    assert all(digests == found["alone"][0] for digests, _ in found.values())
    # Counts, messages and replies to everyone; or messages with their counts, and replies, to one
    # rank of each other node.
    assert found["flat"][1] == 3 * (ranks - 1)
    assert found["3"][1] == 2 * (4 - 1)
    assert found["4"][1] == 2 * (3 - 1)
    # Nodes of 5, 5 and 2: one of the two forwards to three ranks of each larger node.
    assert found["5"][1] == (3 + 3) + 2
    assert found[str(ranks)][1] == 0
