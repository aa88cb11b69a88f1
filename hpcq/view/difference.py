"""How two tables differ: both files merged in the order of their hashes, a piece at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpcq.errors import CheckpointError
from hpcq.job.job import Job
from hpcq.spaces.spaces import named
from hpcq.view.inspect import best_actions, describe_row
from hpcq.view.table import Rows, Table


def _take(rows: Rows, chosen: Any) -> Rows:
    return Rows(*(column[chosen] for column in rows))


def merged(a: Table, b: Table) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows of two tables over the same range of hashes, range after range.

    Both sides together are every row once; memory is that of a piece of each.
    """
    left, right = a.pieces(), b.pieces()
    mine, theirs = next(left, None), next(right, None)
    none_a, none_b = a.rows(0, 0), b.rows(0, 0)
    while mine is not None or theirs is not None:
        last = min(int(rows.hashes[-1]) for rows in (mine, theirs) if rows is not None)
        sides = []
        for rows, none in ((mine, none_a), (theirs, none_b)):
            end = 0 if rows is None else int(np.searchsorted(rows.hashes, np.uint64(last), "right"))
            sides.append((none if rows is None else _take(rows, slice(end)), end))
        yield sides[0][0], sides[1][0]
        mine = _rest(mine, sides[0][1], left)
        theirs = _rest(theirs, sides[1][1], right)


def _rest(rows: Rows | None, done: int, pieces: Iterator[Rows]) -> Rows | None:
    if rows is None or done == rows.hashes.size:
        return None if rows is None else next(pieces, None)
    return _take(rows, slice(done, None))


def difference(path_a: str | Path, path_b: str | Path, top: int = 3) -> dict[str, Any]:
    """Return how two checkpoints differ.

    A policy change is another greedy action, the first one where several are as good. Values are
    compared where the action is legal in both.

    Parameters
    ----------
    top
        how many states to show of each kind.

    Raises
    ------
    CheckpointError
        if one of them is none, or they are of different states or actions.
    """
    with Table(path_a) as a, Table(path_b) as b:
        _check_comparable(a, b)
        found = _Difference(a, b, top)
        for mine, theirs in merged(a, b):
            found.add(mine, theirs)
        return found.format_error()


class _Difference:
    """What is known of two tables after some of their rows."""

    def __init__(self, a: Table, b: Table, top: int) -> None:
        self._tables, self._top = (a, b), top
        self._only, self._common, self._equal, self._changes = [0, 0], 0, 0, 0
        self._compared, self._total, self._biggest = 0, 0.0, 0.0
        self._only_rows: list[list] = [[], []]
        self._policy_rows: list[Any] = []
        self._largest: list[tuple[float, int, Rows, Rows]] = []

    def add(self, mine: Rows, theirs: Rows) -> None:
        """Look at all rows of one range of hashes."""
        _, here, there = np.intersect1d(
            mine.hashes, theirs.hashes, assume_unique=True, return_indices=True
        )
        for side, (rows, both) in enumerate(((mine, here), (theirs, there))):
            alone = np.setdiff1d(np.arange(rows.hashes.size), both, assume_unique=True)
            self._only[side] += alone.size
            shown = self._only_rows[side]
            for i in alone[: self._top - len(shown)]:
                shown.append(describe_row(self._tables[side], _take(rows, [i])))
        self._compare(_take(mine, here), _take(theirs, there))

    def _compare(self, mine: Rows, theirs: Rows) -> None:
        """Look at rows of the same states."""
        legal = np.isfinite(mine.q) & np.isfinite(theirs.q)
        gaps = np.abs(np.subtract(mine.q, theirs.q, where=legal, out=np.zeros(legal.shape)))
        gap = gaps.max(axis=1)
        self._total += float(gaps.sum())
        self._compared += int(legal.sum())
        self._common += gap.size
        self._equal += int((mine.q == theirs.q).all(axis=1).sum())
        self._biggest = max(self._biggest, float(gap.max(initial=0.0)))
        changed = np.flatnonzero(best_actions(mine.q) != best_actions(theirs.q))
        self._changes += changed.size
        for i in changed[: self._top - len(self._policy_rows)]:
            self._policy_rows.append(self._pair(_take(mine, [i]), _take(theirs, [i])))
        for i in np.argsort(-gap, kind="stable")[: self._top]:
            if gap[i] > 0:
                pair = (_take(mine, [i]), _take(theirs, [i]))
                self._largest.append((float(gap[i]), int(pair[0].hashes[0]), *pair))
        self._largest = sorted(self._largest, key=lambda item: (-item[0], item[1]))[: self._top]

    def _pair(self, mine: Rows, theirs: Rows) -> list[dict[str, Any]]:
        return [describe_row(t, r) for t, r in zip(self._tables, (mine, theirs), strict=True)]

    def format_error(self) -> dict[str, Any]:
        """Return what is known."""
        a, b = self._tables
        return {
            "a": {"file": str(a.path), "steps": a.header.step, "states": len(a)},
            "b": {"file": str(b.path), "steps": b.header.step, "states": len(b)},
            "jobs": list(_job(a).differences(_job(b)).values()),
            "same": not sum(self._only) and self._equal == self._common,
            "only": self._only,
            "common": self._common,
            "equal": self._equal,
            "mean": self._total / self._compared if self._compared else 0.0,
            "largest": self._biggest,
            "policy_changes": self._changes,
            "only_rows": self._only_rows,
            "largest_rows": [self._pair(mine, theirs) for _, _, mine, theirs in self._largest],
            "policy_rows": self._policy_rows,
        }


def _job(table: Table) -> Job:
    return Job.saved(json.loads(table.header.job), str(table.path))


def _check_comparable(a: Table, b: Table) -> None:
    for what in ("observation", "actions", "action"):
        mine, theirs = getattr(a.header, what), getattr(b.header, what)
        if mine != theirs:
            if isinstance(mine, dict) and named(mine) != named(theirs):
                mine, theirs = named(mine), named(theirs)
            raise CheckpointError(
                f"{a.path} and {b.path} cannot be compared: {what} is {mine} in one and {theirs} "
                "in the other"
            )
