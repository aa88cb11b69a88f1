"""Measure the parameters of the scaling model, and predict with it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcq.bench import limits, model, tick
from hpcq.errors import DependencyError, JobError

_ROW_BYTES = 32
_RANKS = (2, 64, 4096)


def bench(
    comm: MPI.Intracomm,
    environments: int,
    ranks_per_node: int,
    latency: float,
    bandwidth: float,
    seconds: float,
    picture: str | None,
) -> dict[str, Any]:
    """Time the dram workload and messages here, then predict. Collective.

    Parameters
    ----------
    environments
        on each rank, here and in the prediction.
    latency, bandwidth
        between nodes, in seconds and bytes per second: not measured.
    picture
        where to draw the prediction, or None.
    """
    if comm.size == 1:
        raise JobError("bench model measures messages: start it with mpirun -n 2 or more")
    found = tick.bench(comm, "dram", environments * comm.size, seconds, yardsticks=False)
    messages = limits.alltoallv(comm, (0, 1 << 16), seconds / 2)
    phases = found["phases_ns"]
    machine = model.Machine(
        transition=1e-9 * (sum(phases.values()) - phases["exchange"]),
        wire_bytes=found["bytes_per_transition"] * comm.size / (comm.size - 1),
        latency=latency,
        bandwidth=bandwidth,
        local_latency=1e-6 * messages[0]["microseconds"] / (comm.size - 1),
        local_bandwidth=messages[1]["bytes_per_second"],
        ranks_per_node=ranks_per_node,
    )
    predicted = model.predict(machine, environments)
    if picture and comm.rank == 0:
        try:
            model.plot(predicted, Path(picture))
        except ImportError:
            raise DependencyError("--plot needs matplotlib: pip install 'hpcq[plot]'") from None
    return {
        "environments_per_rank": environments,
        "machine": asdict(machine),
        "predicted": predicted,
        "recommended": [(ranks, model.recommend(machine, ranks, _ROW_BYTES)) for ranks in _RANKS],
    }
