"""What a checkpoint holds, as plain data: for `hpcq inspect` and for people's own scripts."""

import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np

from hpcq.checkpoint.reader import Columns, find_row, opened, table_pieces
from hpcq.checkpoint.schema import Header
from hpcq.errors import CheckpointError, JobError
from hpcq.hashing import MASK, mix64
from hpcq.spaces.codec import Codec
from hpcq.table.digest import Digest


def _plain(observation: Any) -> Any:
    if isinstance(observation, np.ndarray):
        return observation.tolist()
    return [_plain(part) for part in observation] if isinstance(observation, tuple) else observation


def _describe_row(header: Header, key: int, q: Any, visits: Any) -> dict[str, Any]:
    best = np.flatnonzero(q == q.max()) + header.action_start
    row = {
        "key": key,
        "observation": _plain(Codec(header.observation).decode(key)),
        "q": [float(value) if np.isfinite(value) else None for value in q],
        "greedy": best.tolist(),
    }
    if header.visits:
        row["visits"] = visits.tolist()
    return row


def inspect(path: str | Path, extremes: int = 3) -> dict[str, Any]:
    """Return a summary of a checkpoint; reads the table once, in bounded pieces.

    Parameters
    ----------
    extremes
        how many of the states with the largest and the smallest greedy value to show.

    Raises
    ------
    CheckpointError
        for a file that is not a checkpoint.
    """
    with opened(path) as (file, header):
        digest = Digest(*(int(value) for value in file["integrity/digest"][:]))
        best: list[tuple[float, int]] = []
        worst: list[tuple[float, int]] = []
        updates = first = 0
        for hashes, q, visits in table_pieces(file, header, 0, header.rows):
            value = q.max(axis=1)
            updates += int(visits.sum())
            order = np.argsort(value, kind="stable")
            for kept, chosen, sign in (
                (best, order[::-1][:extremes], 1),
                (worst, order[:extremes], -1),
            ):
                for i in chosen:
                    item = (sign * float(value[i]), first + int(i))
                    if len(kept) < extremes:
                        heapq.heappush(kept, item)
                    else:
                        heapq.heappushpop(kept, item)
            first += hashes.size
        summary: dict[str, Any] = {
            "file": str(path),
            "environment": header.environment,
            "observation": header.observation,
            "actions": header.actions,
            "steps": header.step,
            "ticks": header.tick,
            "states": header.rows,
            "state_space": Codec(header.observation).size,
            "dtype": header.dtype,
            "environments": header.environments,
            "episodes": int(file["environments/episodes"][:].sum()),
            "written_by_ranks": header.ranks,
            "versions": header.versions,
            "format": header.format,
            "digest": str(digest),
            "job": json.loads(header.job),
        }
        if header.visits:
            summary["updates"] = updates
        for name, kept in (("largest", best), ("smallest", worst)):
            summary[name] = [
                _row_at(path, file, header, at) for _, at in sorted(kept, reverse=True)
            ]
        return summary


def _row_at(path: str | Path, file: Columns, header: Header, at: int) -> dict[str, Any]:
    key = int(file["table/key"][at : at + 1][0])
    _, q, visits = next(table_pieces(file, header, at, at + 1))
    try:
        return _describe_row(header, key, q[0], visits[0])
    except ValueError as error:
        raise CheckpointError(f"{path}: table/key, row {at}, is no observation: {error}") from None


def inspect_row(path: str | Path, observation: Any) -> dict[str, Any]:
    """Return the row of one observation, found by binary search without loading the table.

    Raises
    ------
    JobError
        if the observation is not in the space, or was never updated.
    """
    with opened(path) as (file, header):
        codec = Codec(header.observation)
        try:
            key = codec.encode(_as_observation(header.observation, observation))
        except ValueError as error:
            raise JobError(f"--row {observation!r} is no observation: {error}") from None
        hash_ = int(mix64.py_func(np.array([key & MASK], np.uint64))[0])
        at = find_row(file, header, hash_)
        if at < header.rows and int(file["table/key"][at : at + 1][0]) == key:
            return _row_at(path, file, header, at)
        raise JobError(f"--row {observation!r}: this state was never updated")


def _as_observation(description: dict[str, Any], value: Any) -> Any:
    """Make tuples of JSON lists where the space has a tuple."""
    if description["kind"] == "Tuple" and isinstance(value, list):
        parts = description["spaces"]
        if len(parts) != len(value):
            raise ValueError(f"expected {len(parts)} values")
        return tuple(_as_observation(p, v) for p, v in zip(parts, value, strict=True))
    return value
