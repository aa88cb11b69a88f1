"""Compare two tables: a merge of both files in hash order, in bounded pieces."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpcq.errors import CheckpointError
from hpcq.job.job import Job
from hpcq.printable import printable
from hpcq.spaces.spaces import named
from hpcq.table.relative import Gaps
from hpcq.view.inspect import best_actions, describe_row
from hpcq.view.table import Rows, Table


def _take(rows: Rows, chosen: Any) -> Rows:
    return Rows(*(column[chosen] for column in rows))


def merged(a: Table, b: Table) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows of two tables in the same range of hashes, range after range.

    Every row appears once; memory is bounded by a piece of each table.
    """
    left, right = a.pieces(), b.pieces()
    rows_a, rows_b = next(left, None), next(right, None)
    empty_a, empty_b = a.rows(0, 0), b.rows(0, 0)
    while rows_a is not None or rows_b is not None:
        last = min(int(rows.hashes[-1]) for rows in (rows_a, rows_b) if rows is not None)
        sides = []
        for rows, empty in ((rows_a, empty_a), (rows_b, empty_b)):
            end = 0 if rows is None else int(np.searchsorted(rows.hashes, np.uint64(last), "right"))
            sides.append((empty if rows is None else _take(rows, slice(end)), end))
        yield sides[0][0], sides[1][0]
        rows_a = _rest(rows_a, sides[0][1], left)
        rows_b = _rest(rows_b, sides[1][1], right)


def _rest(rows: Rows | None, done: int, pieces: Iterator[Rows]) -> Rows | None:
    if rows is None or done == rows.hashes.size:
        return None if rows is None else next(pieces, None)
    return _take(rows, slice(done, None))


def difference(path_a: str | Path, path_b: str | Path, top: int = 3) -> dict[str, Any]:
    """Return how two checkpoints differ.

    A policy change is another greedy action, the first one of several equal ones. Values are
    compared where the action is legal in both. Where both are relative, those of B are moved by a
    number that makes the largest difference as small as can be.

    Parameters
    ----------
    top
        number of states to return of each kind.

    Raises
    ------
    CheckpointError
        if one of them is none, or they are of different states or actions.
    """
    with Table(path_a) as a, Table(path_b) as b:
        _check_comparable(a, b)
        moved = _offset(a, b) if a.relative and b.relative else None
        found = _Difference(a, b, top, moved)
        for rows_a, rows_b in merged(a, b):
            found.add(rows_a, rows_b if moved is None else rows_b._replace(q=rows_b.q + moved))
        return found.result()


def _offset(a: Table, b: Table) -> float:
    """Return what to add to the relative values of B: half-way between their differences."""
    differences = Gaps()
    for rows_a, rows_b in merged(a, b):
        _, here, there = np.intersect1d(
            rows_a.hashes, rows_b.hashes, assume_unique=True, return_indices=True
        )
        gaps = rows_a.q[here] - rows_b.q[there]
        differences.add(gaps[np.isfinite(gaps)])
    return differences.middle


class _Difference:
    """Accumulates the differences of two tables, range by range."""

    def __init__(self, a: Table, b: Table, top: int, moved: float | None) -> None:
        self._tables, self._top, self._moved = (a, b), top, moved
        self._only, self._common, self._equal, self._changes = [0, 0], 0, 0, 0
        self._compared, self._total, self._max_gap = 0, 0.0, 0.0
        self._only_rows: list[list] = [[], []]
        self._policy_rows: list[Any] = []
        self._largest: list[tuple[float, int, Rows, Rows]] = []
        self._loss = 0.0
        self._loss_row: list[dict[str, Any]] | None = None
        solved = [bool(table.header.solution) for table in self._tables]
        self._optimum = solved.index(True) if solved.count(True) == 1 else None

    def add(self, rows_a: Rows, rows_b: Rows) -> None:
        """Add the rows of one range of hashes."""
        _, here, there = np.intersect1d(
            rows_a.hashes, rows_b.hashes, assume_unique=True, return_indices=True
        )
        for side, (rows, both) in enumerate(((rows_a, here), (rows_b, there))):
            alone = np.setdiff1d(np.arange(rows.hashes.size), both, assume_unique=True)
            self._only[side] += alone.size
            kept = self._only_rows[side]
            for i in alone[: self._top - len(kept)]:
                kept.append(describe_row(self._tables[side], _take(rows, [i])))
        self._compare(_take(rows_a, here), _take(rows_b, there))

    def _compare(self, rows_a: Rows, rows_b: Rows) -> None:
        """Add the rows of states that are in both tables."""
        legal = np.isfinite(rows_a.q) & np.isfinite(rows_b.q)
        with np.errstate(over="ignore"):
            gaps = np.abs(np.subtract(rows_a.q, rows_b.q, where=legal, out=np.zeros(legal.shape)))
            gap = gaps.max(axis=1)
            self._total += float(gaps.sum())
        self._compared += int(legal.sum())
        self._common += gap.size
        self._equal += int((rows_a.q == rows_b.q).all(axis=1).sum())
        self._max_gap = max(self._max_gap, float(gap.max(initial=0.0)))
        self._compare_with_optimum((rows_a, rows_b))
        changed = np.flatnonzero(best_actions(rows_a.q) != best_actions(rows_b.q))
        self._changes += changed.size
        for i in changed[: self._top - len(self._policy_rows)]:
            self._policy_rows.append(self._pair(_take(rows_a, [i]), _take(rows_b, [i])))
        for i in np.argsort(-gap, kind="stable")[: self._top]:
            if gap[i] > 0:
                pair = (_take(rows_a, [i]), _take(rows_b, [i]))
                self._largest.append((float(gap[i]), int(pair[0].hashes[0]), *pair))
        self._largest = sorted(self._largest, key=lambda item: (-item[0], item[1]))[: self._top]

    def _compare_with_optimum(self, rows: tuple[Rows, Rows]) -> None:
        """Add what the greedy actions of the one lose by the optimal values that are the other."""
        if self._optimum is None or not rows[0].hashes.size:
            return
        optimum, learned = rows[self._optimum].q, rows[1 - self._optimum].q
        chosen = np.take_along_axis(optimum, best_actions(learned)[:, None], axis=1)[:, 0]
        loss = optimum.max(axis=1) - chosen
        i = int(loss.argmax())
        if loss[i] > self._loss:
            self._loss = float(loss[i])
            self._loss_row = self._pair(_take(rows[0], [i]), _take(rows[1], [i]))

    def _pair(self, rows_a: Rows, rows_b: Rows) -> list[dict[str, Any]]:
        return [describe_row(t, r) for t, r in zip(self._tables, (rows_a, rows_b), strict=True)]

    def result(self) -> dict[str, Any]:
        """Return the differences found so far."""
        a, b = self._tables
        return {
            "a": _described(a),
            "b": _described(b),
            "jobs": list(_job(a).differences(_job(b)).values()),
            "same": not sum(self._only) and self._equal == self._common,
            "only": self._only,
            "common": self._common,
            "moved": self._moved,
            "equal": self._equal,
            "mean": self._total / self._compared if self._compared else 0.0,
            "largest": self._max_gap,
            "policy_changes": self._changes,
            "largest_loss": None if self._optimum is None else self._loss,
            "loss_row": self._loss_row,
            "only_rows": self._only_rows,
            "largest_rows": [self._pair(rows_a, rows_b) for _, _, rows_a, rows_b in self._largest],
            "policy_rows": self._policy_rows,
        }


def _described(table: Table) -> dict[str, Any]:
    header = table.header
    return {
        "file": str(table.path),
        "steps": header.step,
        "states": len(table),
        "solution": header.solution or None,
        "reward_rate": header.reward_rate if table.relative else None,
    }


def _job(table: Table) -> Job:
    return Job.saved(json.loads(table.header.job), str(table.path))


def _check_comparable(a: Table, b: Table) -> None:
    for what in ("observation", "actions", "action"):
        value_a, value_b = getattr(a.header, what), getattr(b.header, what)
        if value_a != value_b:
            if isinstance(value_a, dict) and named(value_a) != named(value_b):
                value_a, value_b = named(value_a), named(value_b)
            raise CheckpointError(
                f"{a.path} and {b.path} cannot be compared: {what} is {printable(value_a)} in one "
                f"and {printable(value_b)} in the other"
            )
