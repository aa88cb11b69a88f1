"""The modes beside each other, on two ranks: ``python -m pytest -s tests/long/test_modes.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch import hpcq

SLOWED = Path(__file__).parents[1] / "support" / "slowed.py"


def test_one_slow_rank_holds_up_lockstep_and_nobody_else():
    done = subprocess.run(
        ["mpirun", "-n", "2", sys.executable, SLOWED],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    print(done.stdout)
    found = json.loads(done.stdout)
    fast, _ = found["lockstep, equal"]
    assert sum(found["asynchronous, one slow"]) > 0.8 * fast
    assert found["asynchronous, one slow"][0] > 0.8 * fast
    # Lockstep goes at the pace of the slow one.
    assert max(found["lockstep, one slow"]) < 1.5 * found["asynchronous, one slow"][1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("problem", ["lake", "regions"])
def test_every_mode_comes_to_a_good_policy(problem):
    arguments = ("--problem", problem, "--steps", 20_000_000, "--json")
    done = hpcq(2, "bench", "modes", *arguments, timeout=540)
    rows = json.loads(done.stdout.splitlines()[-1])["modes"]
    print(json.dumps(rows, indent=1))
    assert [label for label, row in rows.items() if not row["reached"]] == []
    assert rows["periodic, 64, importance"]["messages"] < 0.1 * rows["lockstep"]["messages"]
    if problem == "regions":
        for every in (8, 64):
            importance, equal = (
                rows[f"periodic, {every}, {averaging}"]["steps"]
                for averaging in ("importance", "equal")
            )
            assert importance < equal
