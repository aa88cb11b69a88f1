"""The commands of ``hpcq bench``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcq.cluster.launch import on_ranks, speaker
from hpcq.errors import ExitCode
from hpcq.output import echo

if TYPE_CHECKING:
    from mpi4py import MPI


@click.group()
def bench() -> None:
    """Measure this machine, and hpcq on it.

    \b
    mpirun -n 2 hpcq bench tick --workload dram
    """


SECONDS = click.option("--seconds", default=3.0, show_default=True, help="Time for each figure.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")


@bench.command()
@click.option(
    "--workload",
    default="dram",
    show_default=True,
    type=click.Choice(["dram", "cache", "insert", "skew", "taxi"]),
    help="dram, skew: 2^25 states; cache: 2^14; insert: mostly new states; taxi: 500.",
)
@click.option(
    "--environments",
    default=16_384,
    show_default=True,
    type=click.IntRange(1, 1 << 24),
    help="Over all ranks together.",
)
@click.option("--flat", is_flag=True, help="Use Alltoallv instead of shared memory and forwarders.")
@click.option("--ranks-per-node", type=click.IntRange(1), help="Simulate nodes of so many ranks.")
@click.option(
    "--batches",
    default=1,
    show_default=True,
    type=click.IntRange(1, 16),
    help="Of environments, as mode.batches.",
)
@click.option(
    "--yardsticks/--no-yardsticks",
    default=True,
    help="Also measure the machine's limit and a serial program.",
)
@SECONDS
@AS_JSON
def tick(
    workload: str,
    environments: int,
    flat: bool,
    ranks_per_node: int | None,
    batches: int,
    yardsticks: bool,
    seconds: float,
    as_json: bool,
) -> ExitCode:
    """Time the lockstep tick; compare it with this machine's limit and a serial program.

    \b
    mpirun -n 2 hpcq bench tick --workload taxi
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench.report import tick_text
        from hpcq.bench.tick import bench as measure
        from hpcq.bench.tick import router

        route = router(comm, flat, ranks_per_node)
        found = measure(comm, workload, environments, seconds, route, yardsticks, batches)
        speaker(comm)(json.dumps(found) if as_json else tick_text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command()
@click.option("--id", "id_", default="Taxi-v4", show_default=True, help="A Gymnasium id.")
@click.option(
    "--environments",
    default=512,
    show_default=True,
    type=click.IntRange(1, 1 << 24),
    help="Over all ranks together.",
)
@click.option(
    "--vector",
    type=click.IntRange(1, 1 << 24),
    help="Use native VectorEnvs of so many environments each.",
)
@SECONDS
@AS_JSON
def gym(id_: str, environments: int, vector: int | None, seconds: float, as_json: bool) -> ExitCode:
    """Time a Python environment in hpcq; compare it with stepping alone.

    \b
    mpirun -n 2 hpcq bench gym --id Taxi-v4
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench.gym import bench as measure
        from hpcq.bench.report import gym_text

        found = measure(comm, id_, environments, vector, seconds)
        speaker(comm)(json.dumps(found) if as_json else gym_text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command()
@SECONDS
@AS_JSON
def limits(seconds: float, as_json: bool) -> ExitCode:
    """Measure random and sequential memory and messages, on all ranks at once.

    \b
    mpirun -n 2 hpcq bench limits
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench.limits import bench as measure
        from hpcq.bench.report import limits_text

        found = measure(comm, seconds)
        speaker(comm)(json.dumps(found) if as_json else limits_text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command("modes")
@click.option(
    "--problem",
    default="lake",
    show_default=True,
    type=click.Choice(["lake", "regions"]),
    help="lake: FrozenLake8x8; regions: every rank sees only some of the states.",
)
@click.option("--environments", default=256, show_default=True, type=click.IntRange(1, 1 << 20))
@click.option("--rate", default=0.05, show_default=True, help="Learning rate.")
@click.option("--steps", default=2_000_000, show_default=True, help="Most steps for each mode.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Runs of each.")
@AS_JSON
def modes_(
    problem: str, environments: int, rate: float, steps: int, seeds: int, as_json: bool
) -> ExitCode:
    """Compare the modes: time, steps, messages and bytes to a policy within 1 % of the optimum.

    \b
    mpirun -n 2 hpcq bench modes --problem regions
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench.modes import bench as measure
        from hpcq.bench.modes import text

        found = measure(comm, problem, environments, rate, steps, seeds)
        speaker(comm)(json.dumps(found) if as_json else text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command()
@click.option(
    "--gamma",
    "gammas",
    multiple=True,
    type=click.FloatRange(0, 0.999999),
    help="Default: 0.99 and 0.999; of intervals 0.5 and 0.9.",
)
@click.option("--environments", default=64, show_default=True, type=click.IntRange(1, 1 << 20))
@click.option("--steps", default=3_200_000, show_default=True, type=click.IntRange(1))
@click.option("--models", type=click.IntRange(1), help="Garnets; default: 5, of intervals 200.")
@click.option("--intervals", is_flag=True, help="Measure how often intervals hold the exact value.")
@AS_JSON
def learning(
    gammas: tuple[float, ...],
    environments: int,
    steps: int,
    models: int | None,
    intervals: bool,
    as_json: bool,
) -> ExitCode:
    """Compare learning rates near gamma = 1 by their errors against exact values.

    \b
    hpcq bench learning --gamma 0.999
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench import intervals as of_intervals
        from hpcq.bench import learning as of_rates

        benchmark: Any = of_intervals if intervals else of_rates
        given = gammas or benchmark.GAMMAS, steps, models or benchmark.MODELS
        found = benchmark.bench(comm, environments, *given)
        speaker(comm)(json.dumps(found) if as_json else benchmark.text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command()
@click.option("--gb", default=2.0, show_default=True, help="Size of the table, 10^9 bytes.")
@click.option(
    "--directory",
    default=".",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where to write; default: here.",
)
@AS_JSON
def checkpoint(gb: float, directory: Path, as_json: bool) -> ExitCode:
    """Time checkpoints with every writer; compare with a plain write of the same bytes.

    \b
    mpirun -n 2 hpcq bench checkpoint --gb 0.5
    """

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        from hpcq.bench.checkpoint import bench as measure
        from hpcq.bench.report import checkpoint_text

        found = measure(comm, directory, gb * 1e9)
        speaker(comm)(json.dumps(found) if as_json else checkpoint_text(found))
        return ExitCode.DONE

    return on_ranks(body)


@bench.command()
@click.option("--model", type=click.Choice(["random", "maze"]), default="random", show_default=True)
@click.option("--states", default=1_000_000, show_default=True, type=click.IntRange(4))
@click.option("--actions", default=5, show_default=True, type=click.IntRange(1, 1024))
@click.option("--outcomes", default=20, show_default=True, type=click.IntRange(2, 1024))
@click.option("--gamma", default=0.99, show_default=True, type=click.FloatRange(0, 0.999999))
@click.option("--tolerance", default=1e-3, show_default=True, type=click.FloatRange(1e-12))
@click.option(
    "--method",
    type=click.Choice(["auto", "value", "policy"]),
    default="auto",
    help="As solve.method.",
)
@click.option("--peers/--no-peers", default=True, help="Also time SciPy and QuantEcon.")
@AS_JSON
def solve(as_json: bool, peers: bool, **options: Any) -> ExitCode:
    """Time an exact solution; compare it with other programs, where they are installed.

    mpirun -n 2 hpcq bench solve
    """

    def body(comm: "MPI.Intracomm", _: list[int]) -> ExitCode:
        from hpcq.bench import solve as benchmark
        from hpcq.mpi import barrier

        found = benchmark.measure(comm, **options)
        if comm.rank == 0:
            if peers:
                given = {name: value for name, value in options.items() if name != "method"}
                found["peers"] = benchmark.peers(**given)
            echo(json.dumps(found) if as_json else benchmark.text_of(found))
        barrier(comm)
        return ExitCode.DONE

    return on_ranks(body)
