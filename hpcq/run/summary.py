"""The summary at the end of a run, with exact returns where the model is known."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq import disk
from hpcq.checkpoint.layout_check import describe
from hpcq.checkpoint.reader import opened, table_pieces
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.tabular import TableModel
from hpcq.hashing import unmix64
from hpcq.learning import exact
from hpcq.learning.learner import Learner
from hpcq.run import run_directory
from hpcq.run.beside import distance, distance_text
from hpcq.run.formatting import json_text, rate_text
from hpcq.spaces.canonical import collision_bound
from hpcq.spaces.masks import legal_actions
from hpcq.table.digest import Digest

# Most outcomes visited by an exact solution: about ten seconds.
WORK = 1_000_000_000
HORIZON = 1000


def dense_table(path: Path, states: int) -> NDArray[np.float64]:
    """Return the Q-values of states 0 ... `states` - 1 from a checkpoint, absent ones as q_init.

    The file must be one that this process has just written: its structure is checked without the
    sandbox.
    """
    with opened(path, describe(str(path))) as (file, header):
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
    ended: str | None,
    infos: dict[str, float],
    log: Callable[[str], object],
) -> None:
    """Log the end of a run and write summary.json; for rank 0.

    Parameters
    ----------
    steps, seconds
        done in this process, for the rate; a resumed run has done more.
    clipped
        numbers that were outside their bins' range, on all ranks, in this process.
    ended
        the criterion of [stop] that ended the run, as text; None: it has done its steps.
    infos
        the newest means of numbers in the environments' infos.
    """
    digested = learner.environment.observation["kind"] == "Digest"
    bound = collision_bound(digest.rows) if digested else None
    beside = distance(learner.job, learner.job.directory, path)
    if isinstance(beside, str):
        log(f"note: the solution in {beside}")
        beside = None
    summary: dict[str, Any] = {
        "job": learner.job.name,
        "environment": learner.environment.id,
        **exact_returns(learner, path),
        **({"solution": beside} if beside else {}),
        "steps": learner.steps,
        "ended_by": ended or f"run.steps = {learner.job.run.steps:,}",
        "best_return": learner.progress.best_return,
        "best_step": learner.progress.best_step,
        **({"infos": infos} if infos else {}),
        **({"reward_rate": rate} if (rate := learner.progress.reward_rate) is not None else {}),
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 1) if seconds > 0 else None,
        "states": digest.rows,
        "cut_at": [tick * learner.job.environment.count for tick in learner.progress.cuts],
        "clipped": clipped,
        "collision_bound": bound,
        "ranks": learner.comm.size,
        "digest": str(digest),
        "checkpoint": str(learner.job.shown(path)),
    }
    disk.write_text(
        learner.job.directory / run_directory.SUMMARY, json_text(summary, indent=1) + "\n"
    )
    for line in _lines(summary):
        log(line)


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the summary as lines of text."""
    if summary["greedy_return"] is not None:
        optimum = summary["optimal_return"]
        yield (
            f"greedy policy: {_round(summary['greedy_return'])}, optimum: "
            f"{'not found' if optimum is None else _round(optimum)} "
            f"(exact mean return of an episode of at most {summary['horizon']} steps)"
        )
    if "solution" in summary:
        yield distance_text(summary["solution"])
    if "reward_rate" in summary:
        yield f"mean reward of a step, as learned: {summary['reward_rate']:.6g}"
    if summary["clipped"]:
        yield (
            f"{summary['clipped']:,} numbers of observations were outside their bins' range: "
            "clipped"
        )
    if summary["collision_bound"] is not None:
        yield (
            f"digest codec: the probability that any two of the {summary['states']:,} states share "
            f"a key is at most {summary['collision_bound']:.1e}"
        )
    # None where an environment has stopped the clocks, 0 where nothing was left to do.
    per_second = summary["steps_per_second"]
    rate = f", {rate_text(per_second)} steps/s" if per_second else ""
    yield (
        f"done: {summary['steps']:,} steps, {summary['states']:,} states, "
        f"{summary['seconds']:.1f} s{rate}, {summary['ranks']} rank{'s' * (summary['ranks'] > 1)}"
    )
    yield f"digest {summary['digest']}"
    yield f"checkpoint {summary['checkpoint']}"


def _round(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)
