"""Hosts of one machine: network namespaces with names of their own, joined by a bridge.

Processes of different hosts share no memory that MPI or hpcq would know of, and talk over TCP. The
traffic stays within namespaces that are made here.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import delay

AGENT = """#!/bin/sh
# What Open MPI starts its daemon of a host with, instead of ssh.
host=$1; shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; exec $*"
"""


def possible():
    """Return whether this machine lets us make network namespaces."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "unshare")))


def delays_possible():
    """Return whether it also lets us make the devices of a link with a delay."""
    return possible() and Path("/dev/net/tun").exists()


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


class Network:
    """Hosts, and how they are reached.

    Parameters
    ----------
    head
        the namespace in which mpirun runs.
    names
        of the hosts.
    agent
        what mpirun starts its daemons with.
    """

    def __init__(self, head, names, agent):
        self.head, self.names, self.agent = head, names, agent
        self._subnet, self._relay = "10.77.0.0/24", None

    def mpirun(self, ranks):
        """Return the command that starts so many ranks on every host.

        Each host keeps Open MPI's files in the folder that Open MPI names after it: daemons that
        share one, as conftest.py sets it, meet when they make it.
        """
        network = ("--mca", "oob_tcp_if_include", "10.77.0.0/24")
        network += ("--mca", "btl_tcp_if_include", self._subnet)
        return [
            *("ip", "netns", "exec", self.head, "unshare", "--uts", "sh", "-c"),
            *('hostname "$0"; unset OMPI_MCA_orte_top_session_dir; exec "$@"', self.head),
            *("mpirun", "-n", str(ranks * len(self.names))),
            *("--host", ",".join(f"{name}:{ranks}" for name in self.names)),
            *("--mca", "plm_rsh_agent", str(self.agent), *network),
        ]

    @contextlib.contextmanager
    def link(self, microseconds=0):
        """Let the ranks of two hosts talk over a link with a delay; see delay.py."""
        command = [sys.executable, delay.__file__, *self.names]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
            try:
                assert relay.stdout.readline() == b"ready\n"
                for i, name in enumerate(self.names):
                    ip("-n", name, "addr", "add", f"10.78.0.{i + 1}/24", "dev", delay.DEVICE)
                    ip("-n", name, "link", "set", delay.DEVICE, "mtu", delay.MTU, "up")
                self._subnet, self._relay = "10.78.0.0/24", relay
                self.set_delay(microseconds)
                yield
            finally:
                self._subnet, self._relay = "10.77.0.0/24", None
                relay.stdin.close()

    def set_delay(self, microseconds):
        """Change the delay of the link."""
        self._relay.stdin.write(f"{microseconds}\n".encode())
        self._relay.stdin.flush()


@contextlib.contextmanager
def hosts(count, folder):
    """Make hosts; yield their `Network`.

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
        yield Network(head, names, agent)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
