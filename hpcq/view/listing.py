"""A table of run directories: `hpcq runs`."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq.checkpoint.files import list_checkpoints
from hpcq.errors import HpcqError, JobError
from hpcq.printable import printable
from hpcq.run import lock, metrics_files, run_directory, stored_job
from hpcq.run.formatting import time_text

# Folders below the one that is looked into: runs/NAME, and runs/SWEEP/MEMBER.
DEPTH = 3


@dataclass(frozen=True)
class Listed:
    """A run directory, as far as it can be read."""

    directory: str
    job: str
    state: str
    """done, running, stopped, or what is wrong"""
    steps: int | None
    wanted: int | None
    """run.steps"""
    mean_return: float | None
    """of training, as last reported"""
    evaluation_return: float | None
    age: float
    """seconds since something was written"""


def list_runs(folder: Path) -> list[Listed]:
    """Return the runs in a folder, or in folders of it, the latest last.

    Raises
    ------
    JobError
        if there is no such folder.
    """
    if not folder.is_dir():
        raise JobError(f"{folder}: no such folder; expected one that holds run directories")
    found = [_listed(directory) for directory in directories_of(folder)]
    return sorted(found, key=lambda run: -run.age)


def directories_of(folder: Path, depth: int = DEPTH) -> list[Path]:
    """Return a folder if it is a run directory, or else those in it, by name."""
    if os.path.lexists(folder / run_directory.JOB):
        return [folder]
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if depth > 0 and entry.is_dir(follow_symlinks=False):
                found += directories_of(Path(entry.path), depth - 1)
    return found


def _listed(directory: Path) -> Listed:
    job: dict[str, Any] = {}
    state = ""
    try:
        job = stored_job.parse_object(directory / run_directory.JOB, "run")
    except HpcqError as error:
        state = str(error).removeprefix(f"{directory}/")
    last = _newest_values(metrics_files.read(directory))
    with contextlib.suppress(HpcqError):
        last |= {"step": stored_job.parse_object(directory / run_directory.SUMMARY)["steps"]}
        state = state or "done"
    if lock.is_held(directory):
        state = "running"
    wanted = job["run"].get("steps") if isinstance(job.get("run"), dict) else None
    return Listed(
        str(directory),
        str(job.get("name", "")),
        state or ("stopped" if list_checkpoints(directory) else "not saved"),
        _whole(last.get("step")),
        _whole(wanted),
        last.get("mean_return"),
        last.get("evaluation_return"),
        time.time() - _written(directory),
    )


def _newest_values(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the newest value of each key of the metrics."""
    newest: dict[str, Any] = {}
    for line in lines[-100:]:
        newest |= {key: value for key, value in line.items() if value is not None}
    return newest


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def runs_text(runs: list[Listed]) -> str:
    """Return the table as text."""
    rows = [["run", "job", "state", "steps", "of", "return", "evaluation", "age"]]
    for run in runs:
        rows.append(
            [
                printable(run.directory),
                printable(run.job),
                printable(run.state),
                "" if run.steps is None else f"{run.steps:,}",
                "" if run.wanted is None else f"{run.wanted:,}",
                _number(run.mean_return),
                _number(run.evaluation_return),
                time_text(run.age),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = 3
    return "\n".join(
        "  ".join(
            text.ljust(width) if at < left else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
