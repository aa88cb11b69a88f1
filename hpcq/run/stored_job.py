"""The job of a run directory, as job.json holds it; where that is lost, as a checkpoint does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq import disk
from hpcq.checkpoint.files import by_step, list_aside, set_aside
from hpcq.errors import CheckpointError, HpcqError, UnreadableError
from hpcq.job import renamed
from hpcq.printable import printable

NAME = "job.json"
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Stored:
    """A job as it was stored."""

    data: dict[str, Any]
    """its sections, not checked; the names of keys are today's"""
    source: Path
    """the file that it was read from"""
    fault: str
    """why that is not job.json; empty if it is"""


def read(directory: Path) -> Stored | None:
    """Return the job of a run directory; None if it holds no run.

    Raises
    ------
    CheckpointError
        if job.json is not one, or is garbled and there is no checkpoint that has the job.
    UnreadableError
        if it cannot be read.
    """
    path = directory / NAME
    try:
        return Stored(_job(path, parse(path)), path, "")
    except Missing:
        fault = "lost"
    except Garbled as error:
        fault = f"not valid JSON ({error})"
    for one in by_step(directory) if directory.is_dir() else []:
        if isinstance(one.found, UnreadableError):
            raise one.found
        if not isinstance(one.found, HpcqError):
            data = _job(one.path, json.loads(one.found["attributes"]["job"]))
            return Stored(data, one.path, f"{path} is {fault}: the job is that of {one.path.name}")
    aside = [one.name for one in list_aside(directory)]
    if fault == "lost" and not aside:
        return None
    but = f" but those set aside: {', '.join(aside)}" if aside else ""
    raise CheckpointError(
        f"{path} is {fault}, and there is no checkpoint to make it from{but}; start again with "
        "`hpcq run JOB.toml --overwrite`"
    )


class Missing(CheckpointError):
    """There is no job.json."""


class Garbled(CheckpointError):
    """A job.json is empty, or not JSON."""


def parse(path: Path) -> Any:
    """Return the content of a job.json, or of another small file of hpcq's in JSON.

    Raises
    ------
    Missing, Garbled
        if it is not there, or no JSON.
    UnreadableError
        if it cannot be read.
    """
    try:
        return json.loads(disk.read(path, MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(f"{path}: no such file") from None
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Garbled(printable(error)) from None


def parse_object(path: Path, *keys: str) -> dict[str, Any]:
    """Return a JSON object of hpcq's that has some keys; see `parse`.

    Raises
    ------
    CheckpointError
        if it is none.
    """
    try:
        found = parse(path)
    except Garbled as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        wanted = f" with {', '.join(keys)}" if keys else ""
        raise CheckpointError(f"{path}: expected an object{wanted}")
    return found


def _job(path: Path, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get("run"), dict):
        raise CheckpointError(f"{path}: not a job")
    return renamed.translated(data)


def write(directory: Path, text: str) -> None:
    """Store the effective job, whole or not at all; set a garbled one aside."""
    path = directory / NAME
    try:
        parse(path)
    except Garbled:
        set_aside(path)
    except HpcqError:
        pass
    disk.write_text(path, text + "\n")
