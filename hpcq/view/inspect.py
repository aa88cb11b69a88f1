"""The contents of a checkpoint as plain data: for `hpcq inspect` and for scripts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.checkpoint.header import Header
from hpcq.errors import JobError
from hpcq.learning.progress import is_cuts
from hpcq.table.digest import Digest
from hpcq.view.table import Rows, Table

SAMPLE_BYTES = 32 << 20
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def plain(value: Any) -> Any:
    """Return an observation as JSON types."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


def sample_size(table: Table) -> int:
    """Return the number of rows in a sample of bounded bytes."""
    return min(
        len(table), max(1, SAMPLE_BYTES // (12 * table.header.tables * table.header.actions))
    )


def best_actions(q: NDArray) -> NDArray[np.int64]:
    """Return the greedy action numbers of rows q (n, A), the first of several equal ones."""
    return np.argmax(q, axis=1)


def describe_row(table: Table, rows: Rows) -> dict[str, Any]:
    """Return the first of some rows as JSON types; illegal actions have the value None."""
    q, key = rows.q[0], int(rows.keys[0])
    row = {
        "key": key,
        "observation": plain(table.observation(key)),
        "q": _numbers(q),
        "greedy": [plain(table.actions.one(n)) for n in np.flatnonzero(q == q.max()).tolist()],
    }
    if table.header.visits:
        row["visits"] = rows.visits[0].tolist()
    if table.header.intervals:
        row["mean"] = _numbers(rows.mean[0])
        row["half_width"] = _numbers(rows.half_width[0])
    return row


def _numbers(values: NDArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def inspect(path: str | Path, top: int = 3, whole: bool = False) -> dict[str, Any]:
    """Return a summary of a checkpoint.

    Parameters
    ----------
    path
        a checkpoint, or a run directory: its newest checkpoint.
    top
        number of states to return with the largest and the smallest greedy values, and with the
        most visits.
    whole
        read all rows, in bounded pieces; else a random sample of at most 32 MiB.

    Raises
    ------
    CheckpointError
        for a file that is not a checkpoint.
    """
    with Table(path) as table:
        header = table.header
        digest = Digest(*(int(value) for value in table.column("integrity/digest")))
        return {
            "file": str(table.path),
            "environment": header.environment,
            "observation": header.observation,
            "actions": header.actions,
            "steps": header.step,
            "ticks": header.tick,
            "states": header.rows,
            "state_space": table.codec.size,
            "dtype": header.dtype,
            "tables": header.tables,
            "combine": header.combine,
            "environments": header.environments,
            "episodes": int(table.column("environments/episodes").sum()),
            "written_by_ranks": header.ranks,
            "versions": header.versions,
            "format": header.format,
            "solution": header.solution or None,
            "digest": str(digest),
            "job": json.loads(header.job),
            **_cuts(header),
            **_centring(table),
            **_statistics(table, top, whole),
        }


def _cuts(header: Header) -> dict[str, list[int]]:
    """Return the steps at which stops cut episodes, if any did."""
    ticks = header.progress.get("cuts", [])
    if not ticks or not is_cuts(ticks):
        return {}
    return {"cut_at": [tick * header.environments for tick in ticks]}


def _centring(table: Table) -> dict[str, float]:
    """Return the mean reward, and what is added to the values in the file, if it was subtracted."""
    rate = table.header.reward_rate
    return {"reward_rate": rate, "shift": table.shift} if rate else {}


def _statistics(table: Table, top: int, whole: bool) -> dict[str, Any]:
    """Summarise the states; the first rows in hash order are a random sample."""
    sample = sample_size(table)
    size = len(table) if whole else sample
    largest: list[tuple[float, int]] = []
    smallest: list[tuple[float, int]] = []
    visited: list[tuple[float, int]] = []
    values, visits, widths, updates, first, infinite = [], [], [], 0, 0, 0
    for rows in table.pieces(0, size):
        value, count = rows.q.max(axis=1), rows.visits.sum(axis=1, dtype=np.int64)
        # What is not a number is no extreme.
        largest = _most(largest, np.where(np.isnan(value), -np.inf, value), first, top)
        smallest = _most(smallest, np.where(np.isnan(value), -np.inf, -value), first, top)
        infinite += int((~np.isfinite(value)).sum())
        if table.header.visits:
            visited = _most(visited, count, first, top)
            updates += int(count.sum())
        if first < sample:
            values.append(value[: sample - first])
            visits.append(count[: sample - first])
            widths.append(_greedy_widths(rows)[: sample - first])
        first += value.size
    found: dict[str, Any] = {"looked_at": size}
    if infinite:
        found["not_finite"] = infinite
    values = [piece[np.isfinite(piece)] for piece in values]
    if any(piece.size for piece in values):
        found["values"] = _quantiles(values)
    if size and table.header.visits:
        found["visits"] = _quantiles(visits)
        found["updates"] = updates * len(table) // size
    widths = [piece[np.isfinite(piece)] for piece in widths]
    if any(piece.size for piece in widths):
        found["half_widths"] = _quantiles(widths)
    for name, kept in (("largest", largest), ("smallest", smallest), ("most_visited", visited)):
        if kept or name != "most_visited":
            found[name] = [describe_row(table, table.rows(at, at + 1)) for _, at in kept]
    return found


def _greedy_widths(rows: Rows) -> NDArray[np.float64]:
    """Return half the width of the interval of each row's greedy value; nan without."""
    if not rows.half_width.shape[1]:
        return np.full(rows.hashes.size, np.nan)
    return rows.half_width[np.arange(rows.hashes.size), best_actions(rows.q)]


def _most(
    kept: list[tuple[float, int]], values: NDArray, first: int, count: int
) -> list[tuple[float, int]]:
    """Return the `count` largest (value, row), the first rows of equal values."""
    if 0 < count < values.size:
        least = np.partition(values, -count)[-count]
        here = np.concatenate(
            [np.flatnonzero(values > least), np.flatnonzero(values == least)[:count]]
        )
    else:
        here = np.arange(values.size if count else 0)
    found = kept + [(values[i].item(), first + int(i)) for i in here]
    return sorted(found, key=lambda item: (-item[0], item[1]))[:count]


def _quantiles(pieces: Iterable[NDArray]) -> dict[str, float]:
    values = np.concatenate(list(pieces))
    found = np.quantile(values, QUANTILES, method="nearest").tolist()
    return {f"{100 * q:g}%": value for q, value in zip(QUANTILES, found, strict=True)}


def query(path: str | Path, observations: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the rows of observations, by binary search, without loading the table.

    Raises
    ------
    JobError
        if an observation is not in the space.
    """
    with Table(path) as table:
        return [row_of(table, given) for given in observations]


def row_of(table: Table, observation: Any) -> dict[str, Any]:
    """Return the row of one observation; see `query`."""
    return _row(table, table.key(observation))


def query_key(path: str | Path, key: int) -> dict[str, Any]:
    """Return the row of a key; see `query`."""
    with Table(path) as table:
        if not 0 <= key < table.codec.size:
            raise JobError(f"key {key} is not in 0 ... {table.codec.size - 1}")
        return _row(table, key)


def _row(table: Table, key: int) -> dict[str, Any]:
    """Return the row of a key; of a state that was never updated, with a `note`."""
    rows = table.find(key)
    if rows is not None:
        return describe_row(table, rows)
    actions = table.header.actions
    row = {
        "key": key,
        "observation": plain(table.observation(key)),
        "q": [table.q_init] * actions,
        "greedy": [plain(table.actions.one(n)) for n in range(actions)],
    }
    if table.header.visits:
        row["visits"] = [0] * actions
    if table.header.intervals:
        row["mean"] = row["half_width"] = [None] * actions
    row["note"] = f"never updated: its values are learning.q_init = {table.q_init:g}"
    return row
