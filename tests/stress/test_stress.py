"""A small part of what the stress commands do; see fuzz.py and kills.py for the rest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import network
import pytest
from soaked import soak

HERE = Path(__file__).parent


def run(program, *options):
    # Not what MPI, where another test has started it in this process, has put beside os.environ.
    done = subprocess.run(
        [sys.executable, HERE / program, *options],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("files", "real"), [("50", "4"), *soak(("200", "12"))])
def test_damaged_files_and_texts(files, real):
    assert run("fuzz.py", "--count", files, "--command-line", real) == "0 wrong"


# Two chains at least: one of a compiled environment, one of a Python one.
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("kills", "chain"), [("8", "4"), *soak(("27", "9"))])
def test_kills(kills, chain):
    assert run("kills.py", "--kills", kills, "--chain", chain).endswith("; 0 lost")


@pytest.mark.parametrize(
    ("meetings", "ranks", "busy"), [("100000", "3", "0"), *soak(("20000", "5", "4"))]
)
def test_no_wake_up_is_lost(meetings, ranks, busy):
    options = ("--meetings", meetings, "--ranks", ranks, "--busy", busy)
    assert run("meetings.py", *options) == "0 wrong"


@pytest.mark.timeout(600)
@pytest.mark.skipif(not network.delays_possible(), reason="needs root, iproute2 and /dev/net/tun")
def test_the_measurement_over_a_link_with_a_delay():
    small = ("--turns", "1", "--delays", "0", "500", "--environments", "64", "--seconds", "0.1")
    assert re.match(r"alltoallv +500 us: +[\d.]+ M/s", run("delays.py", *small).strip())
