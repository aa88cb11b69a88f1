"""What a run gives to a tracker: its job, its metrics, its summary; `hpcq publish`.

Runs write nothing but their own files: publishing comes afterwards, from where there is a network.
"""

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq.errors import CheckpointError, DependencyError, StorageError
from hpcq.job.job import Job
from hpcq.printable import printable
from hpcq.run import lock
from hpcq.run.resumable import MAY_CHANGE
from hpcq.view.listing import directories_of
from hpcq.view.rundata import load_run

# Said by the points themselves.
_LEFT_OUT = ("step", "tick", "time")


@dataclass(frozen=True)
class Published:
    """A run as every tracker is given it."""

    id: str
    """the same however often the run is published, or extended"""
    name: str
    """of the job; of a member of a sweep with its number"""
    settings: dict[str, Any]
    """what the run was started with, as section.key"""
    changeable: dict[str, Any]
    """the same of what a resumed run may change"""
    points: list[tuple[int, float, dict[str, float]]]
    """step, time in seconds since 1970, and values of each line of the metrics"""
    results: dict[str, float]
    """the summary's numbers; none before the end"""
    facts: dict[str, str]
    """the summary's texts, the run's directory, and its state"""
    state: str
    """done, running or stopped"""
    job: str
    """the job file"""


def publish(folder: Path, tracker: str, project: str) -> list[str]:
    """Send a run, or every run in a folder of runs, to a tracker; return a line for each.

    Parameters
    ----------
    tracker
        a module of `view/trackers/`.
    project
        what the tracker files the runs under: MLflow's and Aim's experiment, W&B's project.

    Raises
    ------
    CheckpointError
        if there is no run.
    DependencyError
        if the tracker's package is missing.
    StorageError
        if the tracker does not take a run.
    """
    found = directories_of(folder) if folder.is_dir() else []
    if not found:
        raise CheckpointError(
            f"{folder} holds no run; expected a run directory, such as runs/NAME, or a folder of "
            "them, such as that of a sweep"
        )
    module = importlib.import_module(f"hpcq.view.trackers.{tracker}")
    try:
        send: Callable[[Published, str], str] = module.Sender()
    except ImportError as error:
        raise DependencyError(
            f"publishing to {tracker} needs its package ({error}): pip install 'hpcq[{tracker}]'"
        ) from None
    except Exception as error:
        raise StorageError(
            f"{tracker} cannot be used: {printable(error)} ({type(error).__name__})"
        ) from error
    return [f"{directory}: {_sent(send, directory, tracker, project)}" for directory in found]


def _sent(send: Callable[..., str], directory: Path, tracker: str, project: str) -> str:
    run = published(directory)
    try:
        return send(run, project)
    except Exception as error:
        # Whatever a tracker raises: no network, no login, no such server.
        raise StorageError(
            f"{directory}: not published, {tracker} says: {printable(error)} "
            f"({type(error).__name__})"
        ) from error


def published(directory: Path) -> Published:
    """Return what a tracker is given of a run directory.

    Raises
    ------
    CheckpointError
        if it holds no run, or a damaged one.
    """
    run = load_run(directory)
    keys = keys_of(run.job)
    settings = {key: value for key, value in keys.items() if not key.startswith(MAY_CHANGE)}
    place = directory.resolve()
    text = json.dumps([str(place), settings], sort_keys=True)
    points = []
    for line in run.lines:
        values = {k: float(v) for k, v in line.items() if v is not None and k not in _LEFT_OUT}
        points.append((line["step"], float(line.get("time") or 0.0), values))
    summary = run.summary or {}
    state = "running" if lock.is_held(directory) else "done" if summary else "stopped"
    texts = {key: value for key, value in summary.items() if isinstance(value, str)}
    return Published(
        hashlib.sha256(text.encode()).hexdigest()[:24],
        f"{run.job.name}-{place.name}" if place.name.isdecimal() else run.job.name,
        settings,
        {key: value for key, value in keys.items() if key not in settings},
        points,
        {key: float(value) for key, value in summary.items() if _is_number(value)},
        {**texts, "directory": str(place), "state": state},
        state,
        run.job.toml(),
    )


def keys_of(job: Job) -> dict[str, Any]:
    """Return the keys of a learning job, but for its directory; a constant schedule is a number."""
    data = job.model_dump(mode="json", exclude={"name", "solve"}, exclude_none=True)
    keys = {f"{section}.{key}": v for section, keys in data.items() for key, v in keys.items()}
    keys.pop("run.directory", None)
    constant = {"schedule": "constant"}
    return {
        key: value["value"]
        if isinstance(value, dict) and constant.items() <= value.items()
        else value
        for key, value in keys.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
