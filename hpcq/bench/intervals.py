"""Measure how often 95 % intervals of values hold the exact ones, on Garnets as in bench/learning.

Of the updates of a value, as they are on average, the first tenth is left out of its average.
"""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.bench.learning import ACTIONS, STATES, learned, measured
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.hashing import keys_of
from hpcq.job.job import Job
from hpcq.learning import exact
from hpcq.learning.intervals import SUMS, estimates
from hpcq.run.formatting import ranks_text

GAMMAS, MODELS = (0.5, 0.9), 200
RATES: dict[str, dict[str, Any]] = {
    f"visits {exponent}{', centred' if centring else ''}": {
        "learning_rate": {"schedule": "visits", "exponent": exponent},
        "centring": centring,
    }
    for exponent in (0.55, 0.65)
    for centring in (False, True)
}


def _measure(comm: MPI.Intracomm, job: Job, model: int) -> NDArray[np.float64]:
    """Return the share of intervals that hold the exact value, and three parts of the largest one.

    These are: the mean of half their widths, the largest error of a value, and that of an average.
    Collective.
    """
    learner = learned(comm, job, model)
    environment, gamma = learner.environment, job.learning.gamma
    q, sums = np.zeros((STATES, ACTIONS)), np.zeros((STATES, ACTIONS * SUMS))
    for hashes, row, *_ in learner.shard.pieces_with_masks(STATES):
        states = keys_of(hashes).astype(np.int64)
        q[states], sums[states] = row[:, :ACTIONS], row[:, ACTIONS:]
    comm.Allreduce(MPI.IN_PLACE, q)
    comm.Allreduce(MPI.IN_PLACE, sums)
    q += (learner.progress.reward_rate or 0.0) / (1 - gamma)
    learner.close()
    assert isinstance(environment, CompiledEnvironment)
    truth = exact.value_iteration(environment.model, gamma, 1e-9)
    assert truth is not None
    mean, width = estimates(sums.reshape(STATES, ACTIONS, SUMS))
    scale = np.abs(truth).max()
    held = np.abs(mean - truth) <= width
    errors = np.abs(q - truth).max() / scale, np.nanmax(np.abs(mean - truth), initial=0) / scale
    return np.array([held.mean(), np.nan_to_num(width).mean() / scale, *errors])


def bench(
    comm: MPI.Intracomm, environments: int, gammas: tuple[float, ...], steps: int, models: int
) -> dict[str, Any]:
    """Measure every rate at every gamma, on so many models. Collective."""
    after = steps // (10 * STATES * ACTIONS)
    rates = {name: {**learning, "intervals_after": after} for name, learning in RATES.items()}

    def measure(job: Job) -> dict[str, float]:
        found = [_measure(comm, job, model) for model in range(models)]
        names = ("coverage", "half_width", "error", "error_of_average")
        means = [np.mean(found, axis=0)[:2], np.median(found, axis=0)[2:]]
        return dict(zip(names, np.concatenate(means).tolist(), strict=True))

    return measured(comm, "intervals", rates, environments, gammas, steps, models, measure)


def text(found: dict[str, Any]) -> str:
    """Return the measurements as a table."""
    gammas = list(next(iter(found["rates"].values())))
    lines = [
        f"Garnets of {STATES} states and {ACTIONS} actions, {found['models']} of them; "
        f"{found['steps']:,} steps of {found['environments']:,} environments, "
        f"{ranks_text(found['ranks'])}",
        "95 % intervals that hold the exact value; in % of the largest value half their width "
        "(mean),",
        "largest error of a value, and of an average (medians)",
        "",
        f"{'learning rate':<22}" + "".join(f"{f'gamma {gamma}':>34}" for gamma in gammas),
    ]
    for name, row in found["rates"].items():
        cells = [
            f"{100 * row[g]['coverage']:.1f} %: {100 * row[g]['half_width']:.2g}, "
            f"{100 * row[g]['error']:.2g}, {100 * row[g]['error_of_average']:.2g}"
            for g in gammas
        ]
        lines.append(f"{name:<22}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)
