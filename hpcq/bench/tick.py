"""The lockstep tick against the machine's limit and against a program without messages."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.bench import limits, serial
from hpcq.bench.workloads import Workload, workload
from hpcq.exchange import make_exchange
from hpcq.exchange.base import Exchange
from hpcq.hashing import mix64, owner
from hpcq.jit.compiler import kernel
from hpcq.learning.learner import Learner
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.warmup import warm_up
from hpcq.mpi import count_nodes, first_on_each_node

Route = Callable[..., Exchange]

WALKERS = (1024, 4096, 16_384)
_CHUNK = 1 << 22

# The first batches of ticks are short: medians are over the longer ones.
SHORT = 3


@kernel
def _select(
    hashes: NDArray[np.uint64], rank: np.uint64, ranks: np.uint64, out: NDArray[np.uint64]
) -> int:
    """Copy the hashes that `rank` owns; return how many."""
    n = 0
    for i in range(hashes.size):
        if owner(hashes[i], ranks) == rank:
            out[n] = hashes[i]
            n += 1
    return n


def fill(learner: LockstepLearner, states: int) -> None:
    """Give every state 0 ... `states` - 1 of this rank's a row of zeros."""
    owned = []
    for start in range(0, states, _CHUNK):
        keys = np.arange(start, min(states, start + _CHUNK), dtype=np.uint64)
        hashes = mix64.py_func(keys)
        found = np.empty_like(hashes)
        n = _select(hashes, np.uint64(learner.comm.rank), np.uint64(learner.comm.size), found)
        owned.append(found[:n].copy())
    everything = np.sort(np.concatenate(owned))
    learner.shard.reserve(everything.size)
    for start in range(0, everything.size, _CHUNK):
        part = everything[start : start + _CHUNK]
        q = np.zeros((part.size, learner.shard.columns), learner.shard.dtype)
        learner.shard.load(part, q, np.zeros((part.size, 0), np.uint32))


def advance_to(learner: Learner, tick: int) -> None:
    """Go on to a tick. Collective."""
    while learner.tick < tick:
        learner.advance(last=tick)


def measure(
    learner: LockstepLearner, seconds: float, between: Callable[[int, float], None] | None = None
) -> dict[str, Any]:
    """Advance a learner that has begun; return rates and times by phase. Collective.

    Parameters
    ----------
    between
        called after every batch of ticks with their number and rate; its time counts, too.
    """
    comm = learner.comm
    clock = time.perf_counter
    count = learner.job.environment.count
    advance_to(learner, learner.tick + 3)
    learner.stopwatch.take()
    rates, ticks, ends = [], 0, clock() + seconds
    batch = 1
    while True:
        comm.Barrier()
        start = clock()
        advance_to(learner, learner.tick + batch)
        took = comm.allreduce(clock() - start, MPI.MAX)
        rates.append(batch * count / took)
        if between is not None:
            between(batch, rates[-1])
        ticks += batch
        batch = max(1, int(batch * min(4.0, 0.2 / took)))
        if comm.allreduce(clock() > ends, MPI.LOR) and len(rates) >= 7:
            break
    spent = learner.stopwatch.take()
    per_rank = count / comm.size
    messages, wire = learner.traffic()
    loads = comm.allgather(learner.received())
    rates = sorted(rates[SHORT:])
    return {
        "transitions_per_second": float(np.median(rates)),
        "min": rates[0],
        "max": rates[-1],
        "ns_per_transition_and_rank": 1e9 * comm.size / float(np.median(rates)),
        "phases_ns": {
            name: round(comm.allreduce(value, MPI.SUM) / comm.size / per_rank, 2)
            for name, value in spent.items()
        },
        "bytes_per_transition": comm.allreduce(wire, MPI.SUM) / count,
        "records_per_tick": sum(loads),
        "network_messages_per_rank": comm.allreduce(messages, MPI.MAX),
        "balance": max(loads) / (sum(loads) / len(loads)),
        "states": comm.allreduce(len(learner.shard), MPI.SUM),
        "table_bytes": comm.allreduce(learner.shard.nbytes, MPI.SUM),
        "ticks": ticks,
    }


def router(comm: MPI.Intracomm, flat: bool, ranks_per_node: int | None) -> Route:
    """Return an exchange factory; with `ranks_per_node`, nodes are simulated. Collective."""
    if ranks_per_node is None:
        return partial(make_exchange, flat=flat)
    node = comm.Split(comm.rank // ranks_per_node, comm.rank)
    assert isinstance(node, MPI.Intracomm)
    return partial(make_exchange, flat=flat, node=node)


def bench(
    comm: MPI.Intracomm,
    name: str,
    environments: int,
    seconds: float,
    route: Route = make_exchange,
    yardsticks: bool = True,
    batches: int = 1,
) -> dict[str, Any]:
    """Run the tick, and the limit and the serial yardstick of one workload. Collective."""
    work = workload(name, environments, batches)
    nodes = count_nodes(comm)
    with first_on_each_node(comm):
        warm_up(work.job, work.environment, comm.size, nodes)
    learner = LockstepLearner(work.job, work.environment, comm, route)
    if work.states:
        fill(learner, work.states)
    learner.begin()
    found: dict[str, Any] = {
        "workload": name,
        "ranks": comm.size,
        "environments": environments,
        "batches": batches,
        **measure(learner, seconds),
    }
    nbytes = learner.shard.nbytes
    learner.close()
    del learner
    if not yardsticks:
        return found
    lines = limits.random_lines(comm, nbytes, seconds / 3)
    found["lines_per_second"] = lines
    found["limit"] = lines / 2
    found["ratio_to_limit"] = found["transitions_per_second"] / found["limit"]
    if work.states:
        found.update(_compare(comm, work, found["transitions_per_second"], seconds))
    return found


def _compare(comm: MPI.Intracomm, work: Workload, rate: float, seconds: float) -> dict[str, Any]:
    """Run the serial yardsticks on rank 0 while the others sleep. Collective."""
    found = serial.yardsticks(work, WALKERS, seconds / 4) if comm.rank == 0 else {}
    done = comm.Ibarrier()
    while not done.Test():
        time.sleep(0.01)
    found = comm.bcast(found)
    return {
        "serial": found["many_walkers"],
        "serial_one_walker": found["one_walker"],
        "ratio_to_serial": rate / found["many_walkers"],
        "ratio_to_one_walker": rate / found["one_walker"],
        "yardsticks": found,
    }
