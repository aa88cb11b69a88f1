"""Compare the modes: what each takes to learn a policy within 1 % of the optimal one.

Results are means over several seeds.

`lake` is FrozenLake8x8. `regions` is a heterogeneous problem: random problems without transitions
between them; episodes of a rank start, and stay, in its own part of them.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.envs.tabular import TableModel, garnet, table_environment, table_model
from hpcq.exchange import make_exchange
from hpcq.hashing import keys_of
from hpcq.job.job import Job
from hpcq.learning import exact
from hpcq.learning.asynchronous import AsynchronousLearner
from hpcq.learning.learner import Learner
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.periodic import PeriodicLearner
from hpcq.learning.warmup import warm_up
from hpcq.mpi import first_on_each_node

CLOSE = 0.99
# Environment steps between two evaluations of the policy.
CHECK_EVERY = 8_192

# Random problems of every rank, and states of each.
REGIONS, STATES = 4, 12

MODES: dict[str, dict[str, Any]] = {
    "lockstep": {},
    **{
        f"periodic, {every}, {averaging}": {
            "kind": "periodic",
            "merge_every": every,
            "averaging": averaging,
        }
        for every in (1, 8, 64)
        for averaging in ("importance", "equal")
    },
    "asynchronous": {"kind": "asynchronous"},
}


def regions(count: int, states: int, seen: range) -> TableModel:
    """Return a model of `count` random problems without transitions between them.

    Episodes start, and stay, in those numbered `seen`.
    """
    parts = [garnet(states, 3, 3, seed) for seed in range(count)]
    start = np.repeat([part in seen for part in range(count)], states) / (len(seen) * states)
    return table_model(
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.next + i * states for i, part in enumerate(parts)]),
        np.concatenate([part.reward for part in parts]),
        np.concatenate([part.terminated for part in parts]),
        start,
    )


def _problem(
    comm: MPI.Intracomm, name: str, environments: int, rate: float, steps: int
) -> tuple[Job, CompiledEnvironment, NDArray[np.float64]]:
    """Return a job, its environment, and the weights of the states in the value of a policy."""
    lake = name == "lake"
    job = Job.check(
        {
            "name": name,
            "environment": {"id": "FrozenLake8x8-v1" if lake else name, "count": environments},
            "learning": {"gamma": 0.99 if lake else 0.9, "learning_rate": rate},
            "exploration": {"epsilon": 0.5},
            "run": {"steps": steps},
        },
        name,
    )
    if lake:
        environment = resolve(job.environment)
        assert isinstance(environment, CompiledEnvironment)
        return job, environment, environment.model.start
    count = comm.size * REGIONS
    seen = range(comm.rank * REGIONS, (comm.rank + 1) * REGIONS)
    environment = table_environment(name, regions(count, STATES, seen), None)
    return job, environment, np.full(count * STATES, 1 / (count * STATES))


def _seeded(job: Job, seed: int) -> Job:
    return job.model_copy(update={"run": job.run.model_copy(update={"seed": seed})})


def gathered(learner: Learner, states: int) -> NDArray[np.float64]:
    """Return the Q-values (states, actions) of all ranks' rows, on every rank. Collective.

    For rules with one table.
    """
    q = np.zeros((states, learner.environment.actions))
    for piece in learner.shard.pieces(4096):
        q[keys_of(piece[0]).astype(np.int64)] = piece[1]
    learner.comm.Allreduce(MPI.IN_PLACE, q)
    return q


def _value(model: TableModel, q: NDArray, gamma: float, weights: NDArray) -> float:
    """Return the mean value of the greedy policy of `q` over states with these weights."""
    policy = exact.greedy(q, 1e-9)
    values = exact.policy_values(model, policy, gamma)
    return float(weights @ (policy * values).sum(axis=1))


def _measure(learner: Learner, weights: NDArray[np.float64], steps: int) -> dict[str, Any]:
    """Train until the policy is close to the optimal one; return what that took. Collective."""
    comm, gamma = learner.comm, learner.job.learning.gamma
    assert isinstance(learner.environment, CompiledEnvironment)
    model = learner.environment.model
    learner.begin()
    truth = exact.value_iteration(model, gamma)
    assert truth is not None
    best = float(weights @ truth.max(axis=1))
    learner.traffic()
    sent, seconds, value = np.zeros(2, np.int64), 0.0, -np.inf
    ticks = max(1, CHECK_EVERY // learner.job.environment.count)
    while value < best - (1 - CLOSE) * abs(best) and learner.steps < steps:
        comm.Barrier()
        start, goal = time.perf_counter(), learner.tick + ticks
        while learner.tick < goal:
            learner.advance(last=goal)
            sent += learner.traffic()
        seconds += comm.allreduce(time.perf_counter() - start, MPI.MAX)
        value = _value(model, gathered(learner, model.start.size), gamma, weights)
    comm.Allreduce(MPI.IN_PLACE, sent)
    learner.quiesce()
    learner.close()
    return {
        "reached": value >= best - (1 - CLOSE) * abs(best),
        "share": value / best,
        "seconds": seconds,
        "steps": learner.steps,
        "messages": int(sent[0]),
        "bytes": int(sent[1]),
    }


def _mean(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of several measurements, and whether all reached the goal."""
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return {**means, "reached": all(one["reached"] for one in found)}


def bench(
    comm: MPI.Intracomm, name: str, environments: int, rate: float, steps: int, seeds: int
) -> dict[str, Any]:
    """Measure every mode on one problem, with so many seeds. Collective."""
    job, environment, weights = _problem(comm, name, environments, rate, steps)
    rows = {}
    for label, keys in MODES.items():
        chosen = job.model_copy(update={"mode": type(job.mode)(**keys)})
        with first_on_each_node(comm):
            warm_up(chosen, environment)
        # Messages within a node, too: through its memory none would be sent.
        flat: dict[str, Callable[..., Learner]] = {
            "lockstep": partial(LockstepLearner, route=partial(make_exchange, flat=True)),
            "periodic": PeriodicLearner,
            "asynchronous": partial(AsynchronousLearner, flat=True),
        }
        make = flat[chosen.mode.kind]
        rows[label] = _mean(
            [
                _measure(make(_seeded(chosen, seed), environment, comm), weights, steps)
                for seed in range(1, seeds + 1)
            ]
        )
    return {
        "problem": name,
        "ranks": comm.size,
        "environments": environments,
        "learning_rate": rate,
        "seeds": seeds,
        "modes": rows,
    }


def text(found: dict[str, Any]) -> str:
    """Return the comparison as a table."""
    lines = [
        f"{found['problem']}: {found['environments']} environments on {found['ranks']} ranks, "
        f"learning rate {found['learning_rate']}, to {100 * CLOSE:g} % of the optimal value, "
        f"means over {found['seeds']} seeds",
        f"{'mode':26}{'seconds':>9}{'steps':>13}{'messages':>11}{'bytes':>14}",
    ]
    for label, row in found["modes"].items():
        end = "" if row["reached"] else f"  not reached: {row['share']:.1%}"
        lines.append(
            f"{label:26}{row['seconds']:>9.2f}{row['steps']:>13,.0f}{row['messages']:>11,.0f}"
            f"{row['bytes']:>14,.0f}{end}"
        )
    return "\n".join(lines)
