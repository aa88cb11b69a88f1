"""The contents of a run directory, for plots and reports."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq.checkpoint.files import list_checkpoints, locate
from hpcq.errors import CheckpointError, FileWarning, HpcqError
from hpcq.job.job import Job
from hpcq.run import metrics_files, run_directory, stored_job


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
    try:
        data = stored_job.parse(path)
    except stored_job.Garbled as error:
        raise CheckpointError(
            f"{path}: not valid JSON: {error}; `hpcq resume {path.parent}` makes it again from the "
            "newest checkpoint"
        ) from None
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
    return RunData(
        directory,
        load_job(directory / run_directory.JOB),
        metrics_files.read(directory, _warn),
        _summary(directory / run_directory.SUMMARY),
        locate(directory)[0] if list_checkpoints(directory) else None,
    )


def _summary(path: Path) -> dict[str, Any] | None:
    """Return the summary of a run; None where there is none, or it is not readable."""
    try:
        return stored_job.parse_object(path)
    except stored_job.Missing:
        return None
    except HpcqError as error:
        _warn(f"summary left out: {error}")
        return None


def _warn(text: str) -> None:
    warnings.warn(text, FileWarning, stacklevel=3)
