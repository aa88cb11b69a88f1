"""The run directory: job.json, metrics, summary. For its checkpoints see checkpoint/files.py."""

import errno
import os
import shutil
from pathlib import Path

from hpcq.checkpoint.files import BEST, list_checkpoints, prune
from hpcq.errors import RunDirectoryError
from hpcq.run import tensorboard
from hpcq.run.lock import RunLock

JOB, SUMMARY = "job.json", "summary.json"
METRICS, METRICS_CSV = "metrics.jsonl", "metrics.csv"


def _unwritable(directory: Path, error: OSError) -> RunDirectoryError:
    reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
    return RunDirectoryError(
        f"{directory}: cannot write the run directory: {reason}; choose another with "
        "--set run.directory=DIR"
    )


def take(directory: Path, lock: RunLock, job: str) -> bool:
    """Make the directory if need be, and lock it for the run of a job; return whether it was made.

    Raises
    ------
    RunDirectoryError
        if another run has it, or it cannot be written.
    """
    try:
        made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(job)
        return made
    except OSError as error:
        raise _unwritable(directory, error) from None


def check(directory: Path, overwrite: bool) -> None:
    """Refuse a run directory that holds a run, or cannot be written.

    Raises
    ------
    RunDirectoryError
        naming the remedy.
    """
    try:
        if not overwrite and (list_checkpoints(directory) or (directory / JOB).exists()):
            raise RunDirectoryError(
                f"{directory} holds a run already; go on with `hpcq resume {directory}`, "
                "choose another with --set run.directory=DIR, or replace it with --overwrite"
            )
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(directory, error) from None


def prepare(directory: Path, job_text: str) -> None:
    """Remove what an earlier run left, and store the job.

    Raises
    ------
    RunDirectoryError
        if the directory cannot be written.
    """
    try:
        prune(directory, 0)
        for name in (METRICS, METRICS_CSV, SUMMARY, BEST):
            (directory / name).unlink(missing_ok=True)
        shutil.rmtree(directory / tensorboard.FOLDER, ignore_errors=True)
        write_job(directory, job_text)
    except OSError as error:
        raise _unwritable(directory, error) from None


def write_job(directory: Path, job_text: str) -> None:
    """Store the effective job, whole or not at all."""
    write_text(directory / JOB, job_text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
