"""The benchmarks run and print what they promise; how fast is for people to judge."""

import json
import os
import re
import subprocess

import pytest
from launch import hpcq
from readme import benchmarks
from soaked import soak

# Of each of the README's commands: options that make it small, and what it tells.
SMALL = {
    "tick": ("--environments 256 --seconds 0.1", "by phase"),
    "gym": ("--seconds 0.1", "stepping alone"),
    "limits": ("--seconds 0.1", "random lines"),
    "modes": ("--steps 100", "lockstep"),
    "learning": ("--steps 1000 --models 1", "horizon, centred"),
    "intervals": ("--steps 1000 --models 1 --gamma 0.5", "that hold the exact value"),
    "checkpoint": ("--gb 0.01", "direct"),
}


@pytest.mark.parametrize("command", benchmarks())
def test_the_readmes_commands(command, tmp_path):
    options, told = SMALL[re.search(r" bench (?:learning --)?(\w+)", command)[1]]
    smaller = command.replace("--workload dram", "--workload cache")
    smaller = smaller.replace("4096 --vector 2048", "64 --vector 32")
    done = subprocess.run(
        ["bash", "-c", f"{smaller} {options}"],
        cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


@pytest.mark.parametrize("workload", ["cache", *soak("taxi", "insert")])
def test_bench_tick_ends_with_one_json_line(workload):
    arguments = ("--workload", workload, "--environments", 256, "--seconds", 0.2, "--json")
    done = hpcq(2, "bench", "tick", *arguments)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["transitions_per_second"] > 0
    assert found["ratio_to_limit"] == found["transitions_per_second"] / found["limit"]
    assert set(found["phases_ns"]) == {"step", "pack", "exchange", "apply", "answer", "receive"}
    assert ("ratio_to_serial" in found) == (workload != "insert")
    assert 1.0 <= found["balance"] <= 2.0
    # Two records of 16 bytes and a reply of 8, half of them to the other rank.
    assert found["bytes_per_transition"] == pytest.approx(20, rel=0.5)


def test_bench_tick_simulates_nodes():
    arguments = ("--environments", 64, "--seconds", 0.1, "--no-yardsticks", "--json")
    for routing, messages in ((("--flat",), 9), (("--ranks-per-node", 2), 2)):
        done = hpcq(4, "bench", "tick", "--workload", "cache", *routing, *arguments)
        assert json.loads(done.stdout)["network_messages_per_rank"] == messages


def test_bench_modes_compares_all_of_them():
    small = ("--environments", 64, "--steps", 100, "--seeds", 1)
    done = hpcq(2, "bench", "modes", "--problem", "regions", *small, "--json")
    found = json.loads(done.stdout.splitlines()[-1])["modes"]
    assert len(found) == 8
    for label, row in found.items():
        assert row["steps"] >= 100
        assert row["messages"] > 0, label
        assert row["bytes"] > 0, label
