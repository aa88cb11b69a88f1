"""Ranks of several hosts, over TCP: hosts are network namespaces of this machine."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import make_job
import network
import pytest
from launch import HPCQ, hpcq

# In CI a skipped test is a failure. Each host compiles the kernels that it has not found.
pytestmark = [
    pytest.mark.skipif(not network.possible(), reason="network namespaces need root, and iproute2"),
    pytest.mark.timeout(600),
]

JOBS = {
    "lockstep": make_job.make(
        {"id": "Taxi-v4", "count": 96},
        evaluation={"every": 9600, "episodes": 40, "max_steps": 50},
        run={"steps": 19_200},
    ),
    "asynchronous": make_job.make(
        {"id": "Taxi-v4", "count": 96}, mode={"kind": "asynchronous"}, run={"steps": 19_200}
    ),
    "periodic": make_job.make(
        {"id": "Taxi-v4", "count": 96}, mode={"kind": "periodic"}, run={"steps": 19_200}
    ),
}


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory):
    with network.hosts(2, tmp_path_factory.mktemp("network")) as found:
        yield found


@pytest.fixture
def mpirun(two_hosts):
    return two_hosts.mpirun


def run(launcher, *arguments, code=0):
    done = subprocess.run(
        [*launcher, HPCQ, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=500,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def digest(text):
    return re.search(r"^digest (\S+)$", text, re.MULTILINE)[1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_table_is_the_same_over_a_network(ranks, mpirun, tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["lockstep"])
    alone = hpcq(None, "run", job, f"--set=run.directory={tmp_path / 'alone'}", timeout=500).stdout
    far = run(mpirun(ranks), "run", job, f"--set=run.directory={tmp_path / 'far'}")
    assert f"{2 * ranks} ranks" in far
    assert digest(far) == digest(alone)


@pytest.mark.skipif(not network.delays_possible(), reason="a link with a delay needs /dev/net/tun")
@pytest.mark.parametrize("batches", [1, 2])
def test_the_table_is_the_same_over_a_slow_link(batches, two_hosts, tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["lockstep"])
    options = (f"--set=mode.batches={batches}",)
    alone = hpcq(
        None, "run", job, f"--set=run.directory={tmp_path / 'alone'}", *options, timeout=500
    ).stdout
    with two_hosts.link(500):
        place = f"--set=run.directory={tmp_path / 'far'}"
        far = run(two_hosts.mpirun(1), "run", job, place, *options)
    assert digest(far) == digest(alone)
    # A tick of 96 steps takes a message there and one back: at least 1 ms.
    rate, unit = re.search(r"([\d.]+) ([kM]) steps/s, 2 ranks", far).groups()
    assert float(rate) * {"k": 1e3, "M": 1e6}[unit] <= 96 / 0.001


@pytest.mark.parametrize("mode", ["asynchronous", "periodic"])
def test_the_other_modes_run_over_a_network(mode, mpirun, tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS[mode])
    out = run(mpirun(1), "run", job, f"--set=run.directory={tmp_path / 'far'}")
    assert int(re.search(r"done: ([\d,]+) steps", out)[1].replace(",", "")) >= 19_200


def rank_processes(directory):
    """Return the process ids of the ranks that train in a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mpirun" not in words and any(str(directory).encode() in word for word in words):
            exe = os.readlink(entry.with_name("exe"))
            if "python" in exe:
                found.append(int(entry.parent.name))
    return found


def test_a_killed_rank_of_another_host_ends_the_job(mpirun, tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOBS["lockstep"])
    place = tmp_path / "run"
    options = f"--set=run.directory={place}", "--set=run.steps=100_000_000"
    launcher = [*mpirun(1), HPCQ, "run", str(job), *options]
    with subprocess.Popen(
        launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    ) as process:
        for line in process.stdout:
            if "steps/s" in line:
                break
        os.kill(max(rank_processes(place)), signal.SIGKILL)
        killed = time.monotonic()
        process.stdout.read()
        assert process.wait(timeout=60) == 137
        assert time.monotonic() - killed < 30
    assert rank_processes(place) == []
