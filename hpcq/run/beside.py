"""The solution of a job, which `hpcq solve` puts beside its learning run, and how far that is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.files import list_checkpoints, locate
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.reader import find_row, opened, table_pieces
from hpcq.errors import HpcqError
from hpcq.job.job import Job
from hpcq.learning import rule
from hpcq.table.relative import Gaps

# Keys that decide what is optimal: where another one differs, the optimum is the same.
_ENVIRONMENT = ("id", "kwargs", "wrappers", "codec", "discretise", "discretise_actions", "observe")
_DECIDE = {f"environment.{key}" for key in (*_ENVIRONMENT, "action_mask")} | {"learning.gamma"}

# Most Q-values of the solution that are read: a quarter of a minute.
_MOST = 200_000_000

_HUGE = np.finfo(np.float64).max


def solved_directory(directory: Path) -> Path:
    """Return where `hpcq solve` puts the solution of the job that learns in `directory`."""
    return Path(f"{directory}-solved")


def distance(job: Job, directory: Path, checkpoint: Path) -> dict[str, Any] | str | None:
    """Return how far a learned table is from the solution beside its run directory.

    Returns
    -------
    dict
        solution: its checkpoint; bound: proven of it, or None; largest_error: of a Q-value;
        largest_loss: of the greedy action in a state, by the optimal values; not_learned: states of
        the solution that the table has not. With gamma = 1, where values are relative, the error
        that is left when all of them are moved alike; and rate_error: of the average reward.
    str
        why the solution there was not used.
    None
        where there is none.
    """
    there = solved_directory(directory)
    if not there.is_dir() or not list_checkpoints(there):
        return None
    try:
        with opened(locate(there)[0]) as solved, opened(checkpoint) as learned:
            reason = _why_not(job, solved[1], learned[1])
            if reason:
                return f"{job.shown(there)} was not used: {reason}"
            bound = solved[1].solution["bound"]
            about = {"solution": str(job.shown(there)), "bound": bound}
            shift = learned[1].shift(job.learning.gamma)
            relative = "rate" in solved[1].solution
            if relative:
                rate = solved[1].solution["rate"]
                about["rate_error"] = abs(learned[1].reward_rate - rate)
            return about | _compared(learned, solved, shift, relative)
    except HpcqError as error:
        return f"{job.shown(there)} was not used: {error}"


def _why_not(job: Job, solved: Header, learned: Header) -> str:
    """Return why a table is not compared with another one; empty if it is."""
    if not solved.solution:
        return "it is no solution"
    if not solved.solution["done"]:
        return "it is not done"
    of = Job.saved(json.loads(solved.job), "its job")
    others = job.differences(of)
    if wrong := sorted(others.keys() & _DECIDE):
        return f"it is of another job: {'; '.join(others[key] for key in wrong)}"
    if rule.find(job.learning.rule).self_play != rule.find(of.learning.rule).self_play:
        return f"it is of another job: {others['learning.rule']}"
    if (solved.observation, solved.action) != (learned.observation, learned.action):
        return "its states or actions are others"
    if solved.rows * solved.actions > _MOST:
        return "it is large; `hpcq diff` compares both"
    return ""


def _compared(
    learned: tuple[Any, Header], solved: tuple[Any, Header], shift: float, relative: bool
) -> dict[str, Any]:
    differences, loss, both = Gaps(), 0.0, 0
    for q, optimal in _common(learned, solved):
        legal = np.isfinite(optimal)
        # A state that was never updated may have no mask.
        q = np.where(np.isneginf(q) & legal, -_HUGE, q.astype(np.float64) + shift)
        gaps = np.subtract(q, optimal, where=legal, out=np.zeros(q.shape))
        differences.add(gaps[legal & (q > -_HUGE)])
        best = np.where(legal, np.fmax(q, -_HUGE), -np.inf).argmax(axis=1)
        chosen = np.take_along_axis(optimal, best[:, None], axis=1)[:, 0]
        loss = max(loss, float((optimal.max(axis=1) - chosen).max(initial=0.0)))
        both += q.shape[0]
    return {
        "largest_error": differences.largest(relative),
        "largest_loss": loss,
        "not_learned": solved[1].rows - both,
    }


def _common(
    learned: tuple[Any, Header], solved: tuple[Any, Header]
) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield both Q (n, A) of the states in both tables, in bounded pieces."""
    for hashes, q, _ in table_pieces(*learned, 0, learned[1].rows):
        first = find_row(*solved, int(hashes[0]))
        last = find_row(*solved, int(hashes[-1]) + 1)
        for there, optimal, _ in table_pieces(*solved, first, last):
            at = np.minimum(np.searchsorted(hashes, there), hashes.size - 1)
            same = hashes[at] == there
            yield q[at[same]], optimal[same]


def distance_text(found: dict[str, Any]) -> str:
    """Return `distance` as a line of text."""
    text = (
        f"against the solution {found['solution']}: largest error of a value "
        f"{found['largest_error']:.6g}, a greedy action loses at most {found['largest_loss']:.6g}"
    )
    if "rate_error" in found:
        text += f"; error of the average reward {found['rate_error']:.6g}"
    if found["not_learned"]:
        text += f"; {found['not_learned']:,} of its states were not learned"
    return text
