"""What is left of a Slurm allocation, by what scontrol says and by who answers; see tests/slurm."""

import socket

import pytest

from hpcq.cluster import allocation
from hpcq.cluster.allocation import Allocation, expanded, here

JOB = {"SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "2(x2),1", "SLURMD_NODENAME": "a1"}


@pytest.fixture
def slurm(monkeypatch):
    """Nodes a1, a2, b3, all on this host: a function that gives them states and open ports."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    states = {"a1": "MIXED", "a2": "MIXED", "b3": "ALLOCATED+DRAIN"}

    def ask(*command):
        if command[-2] == "hostnames":
            return list(states) if command[-1] == "a[1-2],b3" else []
        return [
            f"NodeName={node} Arch=x86_64 NodeAddr=127.0.0.1 Port={port} OS=Linux #1 State={state}"
            for (node, state), port in zip(states.items(), ports, strict=True)
        ]

    monkeypatch.setattr(allocation, "_ask", ask)
    yield states, dict(zip(states, servers, strict=True))
    for server in servers:
        server.close()


@pytest.fixture
def three(slurm):
    return here({**JOB, "SLURM_JOB_NODELIST": "a[1-2],b3"})


def test_numbers_are_expanded():
    assert expanded("4") == [4]
    assert expanded("2(x3),1,8(x2)") == [2, 2, 2, 1, 8, 8]


def test_an_allocation(three):
    assert three == Allocation({"a1": 2, "a2": 2, "b3": 1}, "a1")
    assert three.ranks == 5
    assert here({}) is None
    assert here({**JOB, "SLURM_JOB_NODELIST": "unknown"}) is None
    alone = {"SLURM_JOB_NODELIST": "a1", "SLURM_TASKS_PER_NODE": "3"}
    assert here({**JOB, **alone}) == Allocation({"a1": 3}, "a1")


def test_nothing_is_lost(three):
    """A node that is being drained works on."""
    assert three.lost() == {}


def test_what_slurm_has_given_up_and_what_is_silent_is_lost(three, slurm):
    states, servers = slurm
    states["a2"] = "DOWN*+NOT_RESPONDING"
    servers["b3"].close()
    assert three.lost() == {"a2": "is DOWN*+NOT_RESPONDING", "b3": "does not answer"}
    left = three.without(three.lost())
    assert left.ranks == 2
    assert left.variables()["SLURM_NODELIST"] == "a1"


def test_silence_of_all_says_nothing(three, slurm):
    """As behind a firewall."""
    for server in slurm[1].values():
        server.close()
    assert three.lost() == {}


def test_launchers_are_told(three):
    found = three.without({"a2": ""}).variables()
    assert found["SLURM_JOB_NODELIST"] == "a1,b3"
    assert found["SLURM_TASKS_PER_NODE"] == "2,1"
    assert (found["SLURM_NNODES"], found["SLURM_NTASKS"]) == ("2", "3")
