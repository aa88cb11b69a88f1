"""Who waits shows where; whole jobs that stall are in tests/jobs/test_failures.py."""

import os
import subprocess
import sys

# Nothing in Python runs in the main thread meanwhile, as within MPI; for several seconds.
BUSY = """
import hashlib, os, signal, threading
from mpi4py import MPI
from hpcq.run.signals import stop_signals
from hpcq.run.watchdog import Watchdog

def wait_for_others():
    ending = threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM))
    ending.start()
    while ending.is_alive():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000_000)

with stop_signals() as caught, Watchdog(MPI.COMM_SELF, LIMIT) as watchdog:
    with watchdog.patient(60):
        wait_for_others()
assert caught == [signal.SIGTERM]
"""


def ended_after_two_seconds(limit):
    done = subprocess.run(
        [sys.executable, "-c", BUSY.replace("LIMIT", str(limit))],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=True,
    )
    return done.stderr


def test_a_rank_that_may_take_longer_shows_where_it_is_when_it_is_ended():
    said = ended_after_two_seconds(limit=2)
    assert "rank 0 on" in said
    assert "in wait_for_others" in said


def test_a_rank_that_has_just_moved_shows_nothing():
    assert ended_after_two_seconds(limit=60) == ""
