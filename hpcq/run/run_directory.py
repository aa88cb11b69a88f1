"""The run directory: job.json, metrics, summary. For its checkpoints see checkpoint/files.py."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from hpcq import disk
from hpcq.checkpoint.files import BEST, list_aside, list_checkpoints, remove_all
from hpcq.errors import RunDirectoryError
from hpcq.run import stored_job, tensorboard
from hpcq.run.lock import RunLock

JOB, SUMMARY = stored_job.NAME, "summary.json"
METRICS, METRICS_CSV = "metrics.jsonl", "metrics.csv"


def _unwritable(directory: Path, error: OSError) -> RunDirectoryError:
    reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
    advice = "choose another with --set run.directory=DIR"
    if isinstance(error.filename, str | Path) and disk.in_the_way(error):
        reason, advice = f"{error.filename}: {reason}", f"move that away, or {advice}"
    return RunDirectoryError(f"{directory}: cannot write the run directory: {reason}; {advice}")


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


def check(directory: Path, overwrite: bool, go_on: str = "") -> None:
    """Refuse a run directory that holds a run, or cannot be written.

    Parameters
    ----------
    go_on
        how to go on with that run, if not by `hpcq resume`.

    Raises
    ------
    RunDirectoryError
        naming the remedy.
    """
    try:
        if not overwrite and _holds_run(directory):
            raise RunDirectoryError(
                f"{directory} holds a run already; go on with "
                f"{go_on or f'`hpcq resume {directory}`'}, choose another with "
                "--set run.directory=DIR, or replace it with --overwrite"
            )
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(directory, error) from None


def _holds_run(directory: Path) -> bool:
    """Return whether a directory holds what `prepare` would remove, and nobody can make again."""
    names = (directory / JOB, directory / BEST)
    return bool(
        list_checkpoints(directory) or list_aside(directory) or any(map(os.path.lexists, names))
    )


def prepare(directory: Path, job_text: str) -> None:
    """Remove what an earlier run left, and store the job.

    Raises
    ------
    RunDirectoryError
        if the directory cannot be written.
    """
    try:
        remove_all(directory)
        for name in (METRICS, METRICS_CSV, SUMMARY, BEST):
            (directory / name).unlink(missing_ok=True)
        shutil.rmtree(directory / tensorboard.FOLDER, ignore_errors=True)
        stored_job.write(directory, job_text)
    except OSError as error:
        raise _unwritable(directory, error) from None


def remove_summary(directory: Path) -> None:
    """Remove the summary of a run that goes on; a directory that is gone is found out later."""
    with contextlib.suppress(OSError):
        (directory / SUMMARY).unlink()
