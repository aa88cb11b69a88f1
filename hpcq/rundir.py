"""The run directory: job.json, checkpoints, metrics and summary of one run."""

import os
import re
from pathlib import Path

from hpcq.errors import RunDirectoryError

JOB, METRICS, SUMMARY = "job.json", "metrics.jsonl", "summary.json"

_NAME = re.compile(r"^ckpt-(\d{15,})\.h5$")


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint after `step` environment steps."""
    return f"ckpt-{step:015d}.h5"


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the published checkpoints of a run directory, newest first."""
    names = sorted(name for name in os.listdir(directory) if _NAME.match(name))
    return [directory / name for name in reversed(names)]


def prune(directory: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints, and temporaries of killed runs."""
    for path in list_checkpoints(directory)[keep:]:
        path.unlink()
    for path in directory.glob("ckpt-*.h5.partial"):
        path.unlink()


def prepare(directory: Path, job_text: str, overwrite: bool) -> None:
    """Make the run directory and store the job there; refuse one that holds another run.

    Raises
    ------
    RunDirectoryError
        if it does, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not overwrite and (list_checkpoints(directory) or (directory / JOB).exists()):
            raise RunDirectoryError(
                f"{directory} holds a run already; go on with `hpcq resume {directory}`, "
                "choose another with --set run.directory=DIR, or replace it with --overwrite"
            )
        prune(directory, 0)
        for name in (METRICS, SUMMARY):
            (directory / name).unlink(missing_ok=True)
        (directory / JOB).write_text(job_text + "\n")
    except OSError as error:
        raise RunDirectoryError(
            f"{directory}: cannot write the run directory: {error.strerror}"
        ) from None
