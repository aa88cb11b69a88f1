"""Hosts of one machine: network namespaces with names of their own, joined by a bridge.

Processes of different hosts share no memory that MPI or hpcq would know of, and talk over TCP. The
traffic stays within namespaces that are made here.
"""

import contextlib
import os
import shutil
import subprocess

AGENT = """#!/bin/sh
# What Open MPI starts its daemon of a host with, instead of ssh.
host=$1; shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; exec $*"
"""


def possible():
    """Return whether this machine lets us make network namespaces."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "unshare")))


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


@contextlib.contextmanager
def hosts(count, folder):
    """Make hosts; yield a function that returns the mpirun for so many ranks of each.

    Parameters
    ----------
    folder
        for the launch agent.
    """
    mark = f"hq{os.getpid() % 100_000}"
    head, names = f"{mark}h", [f"{mark}n{i}" for i in range(count)]
    made = []
    try:
        for name in (head, *names):
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", head, "link", "add", "br0", "type", "bridge")
        ip("-n", head, "addr", "add", "10.77.0.254/24", "dev", "br0")
        ip("-n", head, "link", "set", "br0", "up")
        for i, name in enumerate(names):
            ip("-n", head, "link", "add", f"port{i}", "type", "veth", "peer", "eth0", "netns", name)
            ip("-n", head, "link", "set", f"port{i}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        agent = folder / "agent"
        agent.write_text(AGENT)
        agent.chmod(0o755)

        def mpirun(ranks):
            network = ("--mca", "oob_tcp_if_include", "10.77.0.0/24")
            network += ("--mca", "btl_tcp_if_include", "10.77.0.0/24")
            return [
                *("ip", "netns", "exec", head, "mpirun", "-n", str(ranks * count)),
                *("--host", ",".join(f"{name}:{ranks}" for name in names)),
                *("--mca", "plm_rsh_agent", str(agent), *network),
            ]

        yield mpirun
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
