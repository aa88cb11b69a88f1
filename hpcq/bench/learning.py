"""Compare learning rates near gamma = 1: how far values and policies are from the exact ones.

Garnets, uniform behaviour, values of 0 at the start. Of each rate the median over several models.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcq.bench.modes import gathered
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.tabular import TableModel, garnet_environment
from hpcq.job.job import Job
from hpcq.learning import exact
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.warmup import warm_up
from hpcq.mpi import first_on_each_node
from hpcq.run.formatting import ranks_text

STATES, ACTIONS = 100, 4
GAMMAS, MODELS = (0.99, 0.999), 5

_VISITS = {"schedule": "visits", "exponent": 0.77}
_LATER = {"schedule": "visits", "exponent": 1.0, "slope": 0.1}
RATES: dict[str, dict[str, Any]] = {
    "visits": {"learning_rate": _VISITS},
    "visits, centred": {"learning_rate": _VISITS, "centring": True},
    "slope 0.1, centred 0.3": {"learning_rate": _LATER, "centring": 0.3},
    "horizon": {"learning_rate": {"schedule": "horizon"}},
    "horizon, centred": {"learning_rate": {"schedule": "horizon"}, "centring": True},
    "constant 0.1": {"learning_rate": 0.1},
    "constant 0.1, centred": {"learning_rate": 0.1, "centring": True},
}


def garnet_job(environments: int, gamma: float, steps: int, learning: dict[str, Any]) -> Job:
    """Return a job with this section [learning]; `learned` makes its environment."""
    return Job.check(
        {
            "name": "garnet",
            "environment": {"id": "garnet", "count": environments},
            "learning": {"gamma": gamma, **learning},
            "exploration": {"epsilon": 1.0},
            "run": {"steps": steps},
        },
        "bench learning",
    )


def learned(comm: MPI.Intracomm, job: Job, model: int) -> LockstepLearner:
    """Return the learner of a whole job on a Garnet, to be closed by the caller. Collective."""
    environment = garnet_environment(None, states=STATES, actions=ACTIONS, seed=model)
    learner = LockstepLearner(job, environment, comm)
    learner.begin()
    last = -(-job.run.steps // job.environment.count)
    while learner.tick < last:
        learner.advance(last=last)
    learner.quiesce()
    return learner


def _measure(comm: MPI.Intracomm, job: Job, model: int) -> tuple[float, float]:
    """Return the largest error of a value, and the largest loss of a state by the greedy policy.

    Both as parts of the largest optimal value. Collective.
    """
    learner = learned(comm, job, model)
    gamma = job.learning.gamma
    shift = (learner.progress.reward_rate or 0.0) / (1 - gamma)
    q = gathered(learner, STATES) + shift
    learner.close()
    assert isinstance(learner.environment, CompiledEnvironment)
    table: TableModel = learner.environment.model
    truth = exact.value_iteration(table, gamma, 1e-9)
    assert truth is not None
    scale = np.abs(truth).max()
    values = exact.policy_values(table, exact.greedy(q), gamma)
    value = (exact.greedy(q) * values).sum(axis=1)
    loss = (truth.max(axis=1) - value).max()
    return float(np.abs(q - truth).max() / scale), float(max(0.0, loss) / scale)


def measured(
    comm: MPI.Intracomm,
    benchmark: str,
    rates: dict[str, dict[str, Any]],
    environments: int,
    gammas: tuple[float, ...],
    steps: int,
    models: int,
    measure: Callable[[Job], dict[str, float]],
) -> dict[str, Any]:
    """Return what is measured of every rate at every gamma, and how. Collective."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in rates}
    small = garnet_environment(None, states=STATES, actions=ACTIONS)
    for name, learning in rates.items():
        for gamma in gammas:
            job = garnet_job(environments, gamma, steps, learning)
            with first_on_each_node(comm):
                warm_up(job, small, comm.size)
            rows[name][f"{gamma:g}"] = measure(job)
    return {
        "benchmark": benchmark,
        "ranks": comm.size,
        "environments": environments,
        "steps": steps,
        "models": models,
        "rates": rows,
    }


def bench(
    comm: MPI.Intracomm, environments: int, gammas: tuple[float, ...], steps: int, models: int
) -> dict[str, Any]:
    """Measure every rate at every gamma, on so many models. Collective."""

    def measure(job: Job) -> dict[str, float]:
        found = [_measure(comm, job, model) for model in range(models)]
        return dict(zip(("error", "loss"), np.median(found, axis=0).tolist(), strict=True))

    return measured(comm, "learning", RATES, environments, gammas, steps, models, measure)


def text(found: dict[str, Any]) -> str:
    """Return the measurements as a table."""
    gammas = list(next(iter(found["rates"].values())))
    lines = [
        f"Garnets of {STATES} states and {ACTIONS} actions, median of {found['models']}; "
        f"{found['steps']:,} steps of {found['environments']:,} environments, "
        f"{ranks_text(found['ranks'])}",
        "largest error of a value, and largest loss by the greedy policy, in % of the largest",
        "",
        f"{'learning rate':<22}" + "".join(f"{f'gamma {gamma}':>22}" for gamma in gammas),
    ]
    for name, row in found["rates"].items():
        cells = [f"{100 * row[g]['error']:.3g} / {100 * row[g]['loss']:.2g}" for g in gammas]
        lines.append(f"{name:<22}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)
