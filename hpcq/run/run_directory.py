"""The run directory: job.json, checkpoints, metrics and summary of one run."""

import bisect
import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from hpcq.errors import CheckpointError, RunDirectoryError
from hpcq.run import tensorboard
from hpcq.run.lock import RunLock

JOB, SUMMARY = "job.json", "summary.json"
BEST = "best.h5"
METRICS, METRICS_CSV = "metrics.jsonl", "metrics.csv"

_NAME = re.compile(r"^ckpt-(\d{15,})\.h5$")


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint after `step` environment steps."""
    return f"ckpt-{step:015d}.h5"


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the published checkpoints of a run directory, newest first."""
    found = [(int(m[1]), directory / m[0]) for m in map(_NAME.match, os.listdir(directory)) if m]
    return [path for _, path in sorted(found, reverse=True)]


def checkpoint_of(path: str | Path) -> Path:
    """Return the file, or the newest checkpoint of the run directory, that `path` names.

    Raises
    ------
    CheckpointError
        if a directory holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for newest in list_checkpoints(path):
        return newest
    raise CheckpointError(f"{path}: no checkpoint (ckpt-STEP.h5) in this directory")


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer one; return its new name."""
    aside = path.with_name(path.name + ".damaged")
    with contextlib.suppress(OSError):
        path.rename(aside)
        return aside
    return path


def prune(
    directory: Path,
    keep: int,
    newest: Path | None = None,
    milestones: frozenset[int] = frozenset(),
) -> None:
    """Remove all but the `keep` newest checkpoints, and temporaries of killed runs.

    The file `newest` and, of each of the steps `milestones`, the first one at or after it stay in
    any case: asynchronous runs are saved where all ranks come to a common tick.
    """
    oldest_first = list_checkpoints(directory)[::-1]
    names = [path.name for path in oldest_first]
    at = {bisect.bisect_left(names, checkpoint_name(step)) for step in milestones}
    spared = {oldest_first[i] for i in at if i < len(names)}
    passing = [path for path in oldest_first[::-1] if path not in spared - {newest}]
    for path in passing[keep:]:
        if path != newest:
            path.unlink()
    for path in directory.glob("*.partial"):
        path.unlink()


def keep_best(checkpoint: Path) -> None:
    """Keep a checkpoint as best.h5, in place of the one before, whole or not at all.

    It is another name of the same file where the disk knows such names, and stays when the
    checkpoint is pruned.
    """
    best = checkpoint.with_name(BEST)
    temporary = best.with_name(BEST + ".partial")
    temporary.unlink(missing_ok=True)
    try:
        os.link(checkpoint, temporary)
    except OSError:
        shutil.copyfile(checkpoint, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, best)


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
        saying what to do.
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
