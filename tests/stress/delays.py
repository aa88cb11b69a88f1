"""Measure lockstep over a link with a delay, in one batch and in two, by turns.

    python tests/stress/delays.py --turns 5 --delays 0 20 100 500

makes two hosts of network namespaces, joined by a link whose delay can be set (support/delay.py),
and runs one rank on each. Every turn measures each delay with each number of batches, so that what
else happens on the machine meets all of them alike. Two ranks and the process that is the link
share this machine's cores: on two cores the link takes time from the ranks, so that rates are lower
than over a wire. The first lines say what the link itself can do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

BATCHES = (1, 2)
# Sends bytes to whoever connects, then echoes single ones.
SERVER = """
import socket
with socket.create_server(("10.78.0.1", 7777)) as server:
    print("ready", flush=True)
    peer = server.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range({megabytes}):
        peer.sendall(bytes(1 << 20))
    while byte := peer.recv(1):
        peer.sendall(byte)
"""
CLIENT = """
import socket, statistics, time
peer = socket.create_connection(("10.78.0.1", 7777))
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
began, left, buffer = time.perf_counter(), {megabytes} << 20, bytearray(1 << 20)
while left:
    left -= peer.recv_into(buffer, min(left, 1 << 20))
print(({megabytes} << 20) / (time.perf_counter() - began))
trips = []
for _ in range(200):
    began = time.perf_counter()
    peer.sendall(b"x")
    peer.recv(1)
    trips.append(time.perf_counter() - began)
print(statistics.median(trips))
"""


def link_itself(network, megabytes=256):
    """Return bytes per second of one stream over the link, and the seconds of a round trip."""
    inside = [
        ["ip", "netns", "exec", name, sys.executable, "-c", code.format(megabytes=megabytes)]
        for name, code in zip(network.names, (SERVER, CLIENT), strict=True)
    ]
    with subprocess.Popen(inside[0], stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"ready\n"
        done = subprocess.run(inside[1], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def measure(turns, delays, environments, seconds):
    """Train a learner for each number of batches by turns; tell the parent what to set. Ranks'."""
    from mpi4py import MPI

    from hpcq.bench.tick import advance_to
    from hpcq.bench.workloads import workload
    from hpcq.exchange import make_exchange
    from hpcq.learning.lockstep import LockstepLearner
    from hpcq.learning.warmup import warm_up

    comm, learners = MPI.COMM_WORLD, {}
    names = {"alltoallv": (1, True), **{f"{n}": (n, False) for n in BATCHES}}
    for name, (batches, flat) in names.items():
        work = workload("taxi", environments * comm.size, batches)
        warm_up(work.job, work.environment, comm.size, comm.size)
        route = partial(make_exchange, flat=flat)
        learners[name] = LockstepLearner(work.job, work.environment, comm, route)
        learners[name].begin()
        advance_to(learners[name], 300)
    comm.Barrier()
    for turn in range(turns):
        for delay in delays:
            if comm.rank == 0:
                print(f"delay {delay}", flush=True)
            time.sleep(0.05)
            for name, learner in learners.items():
                advance_to(learner, learner.tick + 10)
                comm.Barrier()
                began, first = time.perf_counter(), learner.tick
                going = True
                while going:
                    advance_to(learner, learner.tick + 20)
                    going = comm.bcast(time.perf_counter() - began < seconds)
                took = comm.allreduce(time.perf_counter() - began, MPI.MAX)
                rate = (learner.tick - first) * environments * comm.size / took
                if comm.rank == 0:
                    found = {"turn": turn, "delay": delay, "name": name, "rate": rate}
                    print(json.dumps(found), flush=True)
    for learner in learners.values():
        learner.close()


def report(found, delays):
    """Print medians, and the medians of the ratios within a turn."""

    def rates(delay, name):
        return [one["rate"] for one in found if (one["delay"], one["name"]) == (delay, name)]

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(a, b, strict=True))

    names = sorted({one["name"] for one in found})
    for name in names:
        for delay in delays:
            mine = rates(delay, name)
            print(
                f"{name:>9}  {delay:>4} us: {statistics.median(mine) / 1e6:6.2f} M/s "
                f"({min(mine) / 1e6:.2f} to {max(mine) / 1e6:.2f}); "
                f"{ratio(mine, rates(delays[0], name)):.2f} of {delays[0]} us, "
                f"{ratio(mine, rates(delay, '1')):.2f} of one batch"
            )


def main():
    import network

    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 20, 100, 500])
    parser.add_argument("--environments", type=int, default=4096, help="on each rank")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rank", action="store_true", help="be a rank of the measurement")
    given = parser.parse_args()
    settings = given.turns, given.delays, given.environments, given.seconds
    if given.rank:
        measure(*settings)
        return
    if not network.delays_possible():
        sys.exit("network namespaces need root and iproute2, the link needs /dev/net/tun")
    found = []
    with tempfile.TemporaryDirectory() as folder, network.hosts(2, Path(folder)) as hosts:
        with hosts.link():
            for delay in given.delays:
                hosts.set_delay(delay)
                speed, trip = link_itself(hosts)
                print(f"link, {delay} us: {speed / 1e9:.2f} GB/s, round trip {1e6 * trip:.0f} us")
            hosts.set_delay(0)
            command = [*hosts.mpirun(1), sys.executable, __file__, "--rank", *sys.argv[1:]]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
            ) as ranks:
                for line in ranks.stdout:
                    if line.startswith("delay "):
                        hosts.set_delay(line.split()[1])
                    else:
                        found.append(json.loads(line))
                        print(line, end="", flush=True)
            if ranks.returncode:
                sys.exit(ranks.returncode)
    report(found, given.delays)


if __name__ == "__main__":
    main()
