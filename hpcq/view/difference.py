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
        only, common, equal, changes, compared, total, biggest = [0, 0], 0, 0, 0, 0, 0.0, 0.0
        only_rows: list[list] = [[], []]
        policy_rows: list[Any] = []
        largest: list[tuple[float, int, Rows, Rows]] = []
        for mine, theirs in merged(a, b):
            _, here, there = np.intersect1d(
                mine.hashes, theirs.hashes, assume_unique=True, return_indices=True
            )
            for side, (table, rows, both) in enumerate(((a, mine, here), (b, theirs, there))):
                alone = np.setdiff1d(np.arange(rows.hashes.size), both, assume_unique=True)
                only[side] += alone.size
                room = top - len(only_rows[side])
                only_rows[side] += [describe_row(table, _take(rows, [i])) for i in alone[:room]]
            mine, theirs = _take(mine, here), _take(theirs, there)
            legal = np.isfinite(mine.q) & np.isfinite(theirs.q)
            gaps = np.abs(np.subtract(mine.q, theirs.q, where=legal, out=np.zeros(legal.shape)))
            total, compared = total + float(gaps.sum()), compared + int(legal.sum())
            gap = gaps.max(axis=1)
            common += gap.size
            equal += int((mine.q == theirs.q).all(axis=1).sum())
            biggest = max(biggest, float(gap.max(initial=0.0)))
            changed = np.flatnonzero(best_actions(mine.q) != best_actions(theirs.q))
            changes += changed.size
            for i in changed[: top - len(policy_rows)]:
                policy_rows.append(_pair(a, b, _take(mine, [i]), _take(theirs, [i])))
            for i in np.argsort(-gap, kind="stable")[:top]:
                if gap[i] > 0:
                    pair = (_take(mine, [i]), _take(theirs, [i]))
                    largest.append((float(gap[i]), int(pair[0].hashes[0]), *pair))
            largest = sorted(largest, key=lambda item: (-item[0], item[1]))[:top]
        return {
            "a": {"file": str(a.path), "steps": a.header.step, "states": len(a)},
            "b": {"file": str(b.path), "steps": b.header.step, "states": len(b)},
            "jobs": list(_job(a).differences(_job(b)).values()),
            "same": not sum(only) and equal == common,
            "only": only,
            "common": common,
            "equal": equal,
            "mean": total / compared if compared else 0.0,
            "largest": biggest,
            "policy_changes": changes,
            "only_rows": only_rows,
            "largest_rows": [_pair(a, b, mine, theirs) for _, _, mine, theirs in largest],
            "policy_rows": policy_rows,
        }


def _pair(a: Table, b: Table, mine: Rows, theirs: Rows) -> list[dict[str, Any]]:
    return [describe_row(a, mine), describe_row(b, theirs)]


def _job(table: Table) -> Job:
    return Job.check(json.loads(table.header.job), str(table.path))


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
