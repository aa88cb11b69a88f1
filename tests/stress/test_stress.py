"""A small part of what the stress commands do; see fuzz.py and kills.py for the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_damaged_files_and_texts():
    assert run("fuzz.py", "--count", "200", "--command-line", "12") == "0 wrong"


@pytest.mark.timeout(1500)
def test_kills():
    assert run("kills.py", "--kills", "27", "--chain", "9").endswith("; 0 lost")
