"""Routing on 32 oversubscribed ranks: ``python -m pytest tests/long/test_many_ranks.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "routed.py"


@pytest.mark.timeout(900)
def test_32_ranks_on_1_to_8_nodes_learn_the_same_table():
    sizes = (4, 8, 16, 32)
    done = subprocess.run(
        ["mpirun", "-n", "32", sys.executable, SCRIPT, *map(str, sizes)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=800,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len({tuple(digests) for digests, _ in found.values()}) == 1
    assert found["flat"][1] == 3 * 31
    # One rank of each other node: counts, messages, replies.
    messages = {size: found[str(size)][1] for size in sizes}
    print(messages)
    assert messages[4] == 3 * 7
    assert messages[8] == 3 * 3
    assert messages[16] == 3 * 1
    assert messages[32] == 0
