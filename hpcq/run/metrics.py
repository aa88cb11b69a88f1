"""What a run tells while it goes on, and its summary at the end."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.checkpoint.reader import opened, table_pieces
from hpcq.collectors.collector import EPISODES, LENGTHS, RETURNS
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.envs.table import TableModel
from hpcq.hashing import unmix64
from hpcq.learning import exact
from hpcq.learning.learner import Learner
from hpcq.run import rundir
from hpcq.spaces.canonical import collision_bound
from hpcq.spaces.masks import legal_actions
from hpcq.table.digest import Digest

# Outcomes looked at in an exact solution: about ten seconds. More would keep people waiting.
WORK = 1_000_000_000
HORIZON = 1000


class Reporter:
    """Progress lines, and the same as JSON lines in the run directory; written by rank 0.

    Sums of returns are added up over ranks and serve reports only: nothing that decides what the
    run does may depend on them.
    """

    def __init__(self, learner: Learner, last: int, say: Callable[[str], None]) -> None:
        self._learner = learner
        self._last = last
        self._say = say
        self._every = learner.job.run.report_every
        self._time = time.perf_counter()
        self._steps = learner.steps

    def due(self) -> bool:
        """Return whether the next report is due by this rank's clock."""
        return time.perf_counter() - self._time >= self._every

    def report(self) -> None:
        """Report what happened since the last report. Collective."""
        learner = self._learner
        tally = learner.collector.tally
        sums = np.concatenate([tally, [len(learner.shard), learner.shard.nbytes]])
        learner.comm.Allreduce(MPI.IN_PLACE, sums, MPI.SUM)
        tally[:] = 0
        now = time.perf_counter()
        rate = (learner.steps - self._steps) / (now - self._time)
        episodes = sums[EPISODES]
        self._time, self._steps = now, learner.steps
        if learner.comm.rank == 0 and rate > 0:
            self._write(
                {
                    "step": learner.steps,
                    "steps_per_second": rate,
                    "episodes": int(episodes),
                    "mean_return": sums[RETURNS] / episodes if episodes else None,
                    "mean_length": sums[LENGTHS] / episodes if episodes else None,
                    **learner.exploration,
                    "states": int(sums[3]),
                    "table_bytes": int(sums[4]),
                }
            )

    def _write(self, values: dict[str, Any]) -> None:
        learner = self._learner
        total = self._last * learner.job.environment.count
        left = (total - learner.steps) / values["steps_per_second"]
        returned = values["mean_return"]
        exploration = [f"{key} {value:.3g}  " for key, value in learner.exploration.items()]
        self._say(
            f"{100 * learner.steps / total:5.1f} %  step {learner.steps:,}  "
            f"{_rate(values['steps_per_second'])} steps/s  "
            f"episodes {values['episodes']:,}  "
            f"return {'-' if returned is None else f'{returned:.2f}'}  "
            f"{''.join(exploration)}states {values['states']:,}  ETA {left:.0f} s"
        )
        try:
            with open(learner.job.directory / rundir.METRICS, "a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            # Training is worth more than its log.
            self._say(f"warning: {rundir.METRICS} not written: {error.strerror}")


def _rate(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.1f}"


def dense_table(path: Path, states: int) -> NDArray[np.float64]:
    """Return the Q-values of states 0 ... `states` - 1 from a checkpoint, absent ones as q_init."""
    with opened(path) as (file, header):
        q_init = json.loads(header.job)["learning"]["q_init"]
        q = np.full((states, header.actions), q_init, np.float64)
        for hashes, rows, _ in table_pieces(file, header, 0, header.rows):
            q[unmix64.py_func(hashes).astype(np.int64)] = rows
    return q


def exact_returns(learner: Learner, path: Path) -> dict[str, float | int | None]:
    """Return the exact undiscounted returns of the learned greedy policy and of the optimum.

    Both are expectations over the start distribution for episodes of at most `horizon` steps:
    the time limit, or `HORIZON` where there is none. The optimum is the greedy policy of value
    iteration at the job's gamma. None where the model is not known, or it would take long.
    """
    environment = learner.environment
    values: dict[str, float | int | None] = {
        "greedy_return": None,
        "optimal_return": None,
        "horizon": None,
    }
    if not isinstance(environment, CompiledEnvironment) or not isinstance(
        environment.model, TableModel
    ):
        return values
    model = environment.model
    size = model.probability.size
    horizon = environment.max_episode_steps or HORIZON
    if horizon * size > WORK:
        return values
    q, legal = dense_table(path, model.start.size), None
    if environment.masked and model.legal.size:
        # A state that was never updated has no mask in the table.
        legal = legal_actions(model.legal, environment.actions)
        q = np.where(legal, q, -np.inf)
    values["horizon"] = horizon
    values["greedy_return"] = exact.expected_return(model, exact.greedy(q), horizon)
    best = exact.value_iteration(
        model, learner.job.learning.gamma, sweeps=min(100_000, WORK // size), legal=legal
    )
    if best is not None:
        policy = exact.greedy(best, 1e-9 * max(1.0, float(np.abs(best.max(axis=1)).max())))
        values["optimal_return"] = exact.expected_return(model, policy, horizon)
    return values


def summarise(
    learner: Learner,
    path: Path,
    digest: Digest,
    steps: int,
    seconds: float,
    clipped: int,
    say: Callable[[str], None],
) -> None:
    """Print the end of a run and write summary.json; for rank 0.

    Parameters
    ----------
    steps, seconds
        done in this process, for the rate; a resumed run has done more.
    clipped
        numbers that were outside their bins' range, on all ranks, in this process.
    """
    digested = learner.environment.observation["kind"] == "Digest"
    bound = collision_bound(digest.rows) if digested else None
    summary: dict[str, Any] = {
        "job": learner.job.name,
        "environment": learner.environment.id,
        **exact_returns(learner, path),
        "steps": learner.steps,
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 1) if seconds > 0 else None,
        "states": digest.rows,
        "clipped": clipped,
        "collision_bound": bound,
        "ranks": learner.comm.size,
        "digest": str(digest),
        "checkpoint": str(path),
    }
    rundir.write_text(learner.job.directory / rundir.SUMMARY, json.dumps(summary, indent=1) + "\n")
    if summary["greedy_return"] is not None:
        optimum = summary["optimal_return"]
        say(
            f"greedy policy: {_round(summary['greedy_return'])}, optimum: "
            f"{'not found' if optimum is None else _round(optimum)} "
            f"(exact mean return of an episode of at most {summary['horizon']} steps)"
        )
    if clipped:
        say(f"{clipped:,} numbers of observations were outside their bins' range: clipped")
    if bound is not None:
        say(
            f"digest codec: the probability that any two of the {digest.rows:,} states share a "
            f"key is at most {bound:.1e}"
        )
    say(
        f"done: {learner.steps:,} steps, {digest.rows:,} states, {seconds:.1f} s"
        + (f", {_rate(steps / seconds)} steps/s" if steps else "")
        + f", {learner.comm.size} rank{'s' * (learner.comm.size > 1)}"
    )
    say(f"digest {digest}")
    say(f"checkpoint {path}")


def _round(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)
