"""The contents of a run directory, for plots and reports."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq.checkpoint.files import list_checkpoints
from hpcq.errors import CheckpointError
from hpcq.job.job import Job
from hpcq.run import metrics_files, run_directory


@dataclass(frozen=True)
class RunData:
    """A run, finished or not."""

    directory: Path
    job: Job
    lines: list[dict[str, Any]]
    """of metrics.jsonl"""
    summary: dict[str, Any] | None
    """None before the end"""
    checkpoint: Path | None
    """the newest; None before the first"""


def load_job(path: Path) -> Job:
    """Return the job in a run directory's job.json.

    Raises
    ------
    CheckpointError
        if it is not one.
    """
    data = _json(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: not a job")
    return Job.saved(data, str(path))


def load_run(directory: Path) -> RunData:
    """Return the contents of a run directory.

    Raises
    ------
    CheckpointError
        if it holds no run, or a damaged one.
    """
    if not (directory / run_directory.JOB).is_file():
        raise CheckpointError(
            f"{directory} holds no run (no {run_directory.JOB}); expected a run directory, such as "
            "runs/NAME"
        )
    summary = directory / run_directory.SUMMARY
    return RunData(
        directory,
        load_job(directory / run_directory.JOB),
        metrics_files.read(directory),
        _json(summary) if summary.exists() else None,
        next(iter(list_checkpoints(directory)), None),
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
