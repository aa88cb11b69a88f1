"""The nodes of the Slurm allocation that this process is in, and what is left of them."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# Seconds for a node's slurmd to accept a connection.
PATIENCE = 2.0
# Where Slurm does not say at which port it listens.
_PORT = 6818
# In a node's state: Slurm has given it up, or (*) it has not answered Slurm for some time.
_LOST = re.compile(r"DOWN|FAIL|NOT_RESP|\*")


@dataclass(frozen=True)
class Allocation:
    """Nodes, and how many tasks Slurm gives each of them."""

    tasks: dict[str, int]
    own: str
    """the node that this process runs on"""

    @property
    def ranks(self) -> int:
        """The tasks of all nodes."""
        return sum(self.tasks.values())

    def lost(self) -> dict[str, str]:
        """Return the nodes that ranks cannot be started on any more, and why.

        Slurm itself knows after `SlurmdTimeout`, often minutes; so each node is asked.
        """
        told = dict(self._told())
        if len(self.tasks) == 1 or not told:
            return {}
        with ThreadPoolExecutor(32) as pool:
            answers = dict(zip(told, pool.map(_answers, told.values()), strict=True))
        states = {node: each.get("State", "") for node, each in told.items()}
        found = {node: f"is {state}" for node, state in states.items() if _LOST.search(state)}
        # Where not even the own node answers, nothing can be concluded from silence.
        if answers.get(self.own):
            silent = (node for node, there in answers.items() if not there)
            found |= {node: "does not answer" for node in silent if node not in found}
        found.pop(self.own, None)
        return found

    def without(self, nodes: Mapping[str, str]) -> "Allocation":
        """Return the allocation that is left without some nodes."""
        left = {node: tasks for node, tasks in self.tasks.items() if node not in nodes}
        return Allocation(left, self.own)

    def variables(self) -> dict[str, str]:
        """Return what makes launchers take these nodes for the allocation."""
        nodes, tasks = ",".join(self.tasks), ",".join(map(str, self.tasks.values()))
        count, ranks = str(len(self.tasks)), str(self.ranks)
        return {
            "SLURM_NODELIST": nodes,
            "SLURM_JOB_NODELIST": nodes,
            "SLURM_TASKS_PER_NODE": tasks,
            "SLURM_NNODES": count,
            "SLURM_JOB_NUM_NODES": count,
            "SLURM_NTASKS": ranks,
            "SLURM_NPROCS": ranks,
            # What ran on a lost node still counts as running, and holds its CPUs on the others.
            "SLURM_OVERLAP": "1",
        }

    def _told(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield every node with what Slurm knows of it; nothing if it cannot be asked."""
        for line in _ask("scontrol", "--oneliner", "show", "node", ",".join(self.tasks)):
            found = dict(re.findall(r"(\S+?)=(\S*)", line))
            if found.get("NodeName") in self.tasks:
                yield found["NodeName"], found


def here(environ: Mapping[str, str] = os.environ) -> Allocation | None:
    """Return the allocation of the batch script that runs this; None where there is none."""
    given, own = environ.get("SLURM_TASKS_PER_NODE", ""), environ.get("SLURMD_NODENAME", "")
    if "SLURM_JOB_ID" not in environ or not given:
        return None
    nodes = [environ.get("SLURM_JOB_NODELIST", "")]
    if nodes[0] != own:
        nodes = _ask("scontrol", "show", "hostnames", nodes[0])
    tasks = expanded(given)
    if not own or len(nodes) != len(tasks):
        return None
    return Allocation(dict(zip(nodes, tasks, strict=True)), own)


def expanded(text: str) -> list[int]:
    """Return the numbers that Slurm abbreviates: 2(x3),1 is 2, 2, 2, 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(number) for number, times in found for _ in range(int(times or 1))]


def _answers(node: Mapping[str, str]) -> bool:
    """Return whether a node's slurmd accepts a connection."""
    port = node.get("Port", "")
    address = node.get("NodeAddr", ""), int(port) if port.isdecimal() else _PORT
    try:
        socket.create_connection(address, PATIENCE).close()
    except OSError:
        return False
    return True


def _ask(*command: str) -> list[str]:
    """Return the lines that a command of Slurm's prints; none if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
