"""What a run directory holds to resume: its job, and its newest whole checkpoint."""

import copy
import json
from pathlib import Path

from hpcq.checkpoint.files import list_checkpoints, set_aside
from hpcq.checkpoint.reader import verify
from hpcq.errors import CheckpointError, FormatError, JobError
from hpcq.job import renamed
from hpcq.job.job import Job
from hpcq.job.toml_io import beside, override, placeless, toml
from hpcq.run import run_directory

MAY_CHANGE = (
    "run.steps",
    "run.report_every",
    "run.stall_timeout",
    "run.table_gib",
    "run.tensorboard",
    "checkpoint.",
    "stop.",
)
MAY_MOVE = ("environment.id", "environment.wrappers")
MAY_OVERRIDE = (
    "environment.kwargs",
    "environment.max_episode_steps",
    "learning.gamma",
    "learning.learning_rate",
    "exploration.epsilon",
    "exploration.temperature",
    "exploration.confidence",
)


def read_job(directory: Path, overrides: tuple[str, ...], relearn: bool) -> Job:
    """Return the job of a run directory. The file job.json decides, never a checkpoint.

    Parameters
    ----------
    relearn
        whether keys that shape learning may change, too: `--override`.
    """
    for assignment in overrides:
        if moved := renamed.key_message(assignment.partition("=")[0].strip()):
            raise JobError(f"--set {assignment}: {moved}")
        if not assignment.startswith(MAY_CHANGE + MAY_MOVE + (MAY_OVERRIDE if relearn else ())):
            raise _kept(f"--set {assignment}", relearn)
    path = directory / run_directory.JOB
    if not path.exists():
        raise CheckpointError(
            f"{directory} holds no run (no {run_directory.JOB}); expected a run directory, such as "
            "runs/NAME of an earlier `hpcq run`; to use the table of a checkpoint, "
            "start a run with --set run.start_from=CHECKPOINT"
        )
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("run"), dict):
        raise CheckpointError(f"{path}: not a job")
    data = renamed.translated(data)
    before = Job.check(copy.deepcopy(data), str(path))
    override(data, overrides)
    beside(data, Path())
    data["run"]["directory"] = str(directory)
    job = Job.check(data, str(path))
    if any(key in MAY_MOVE for key in job.differences(before)):
        raise _kept(f"--set {' '.join(overrides)}", relearn)
    name = placeless(job.environment.id)
    check_places(job, f"if it has moved: --set environment.id=FOLDER/{name}")
    return job


def _kept(source: str, relearn: bool) -> JobError:
    also = f" and {', '.join(MAY_OVERRIDE)}" if relearn else ""
    with_override = "" if relearn else f"; with --override also {', '.join(MAY_OVERRIDE)}"
    return JobError(
        f"{source}: a resumed run keeps its job, but for run.steps, run.report_every, "
        "run.stall_timeout, run.table_gib, run.tensorboard, checkpoint.*, stop.*, the folder of "
        f"the file in environment.id{also}{with_override}; to change more, start a new run from "
        "this table with --set run.start_from=CHECKPOINT and another run.directory"
    )


def check_places(job: Job, advice: str) -> None:
    """Raise a JobError with advice if the file of the job's environment is not there."""
    place, _, _ = job.environment.id.rpartition(":")
    if place.endswith(".py") and not Path(place).exists():
        raise JobError(f"{job.source}: environment.id: no file {place}; {advice}")


def newest(directory: Path, job: Job, relearn: bool) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint (None before the first), and lines to log.

    A damaged file is renamed, so that it no longer counts as one of those to keep.
    """
    notes: list[str] = []
    for path in list_checkpoints(directory):
        try:
            header, _ = verify(path)
        except FormatError:
            raise
        except CheckpointError as error:
            notes.append(f"skipped {error}; renamed to {set_aside(path).name}")
            continue
        differences = job.differences(Job.saved(json.loads(header.job), str(path)))
        refused = [key for key in differences if not (relearn and key in MAY_OVERRIDE)]
        if refused:
            raise CheckpointError(
                f"{path} was written by another job: "
                + "; ".join(differences[key] for key in refused)
                + (
                    "\nto go on in spite of this, add --override"
                    if not relearn and set(refused) <= set(MAY_OVERRIDE)
                    else ""
                )
            )
        notes += [f"overridden: {text}" for text in differences.values()]
        return path, notes
    if notes:
        raise CheckpointError(f"{directory}: no checkpoint is whole:\n" + "\n".join(notes))
    return None, [f"no checkpoint in {directory} yet: starting from the beginning"]


def holds_run_of(job: Job) -> bool:
    """Return whether the job's directory holds a run, which must be this job's.

    Raises
    ------
    JobError
        naming the keys that differ.
    """
    path = job.directory / run_directory.JOB
    try:
        found = Job.saved(json.loads(path.read_text()), str(path))
    except FileNotFoundError:
        return False
    except ValueError:
        return True  # `read_job` says what is wrong with it
    here, there = _keys(job), _keys(found)
    differences = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in {**there, **here}
        if here.get(key) != there.get(key)
        and not (key in MAY_MOVE and placeless(here.get(key)) == placeless(there.get(key)))
        and not key.startswith((*MAY_CHANGE, "run.directory"))
    ]
    if differences:
        raise JobError(
            f"{job.source}: {job.directory} holds the run of another job "
            f"({'; '.join(differences)}); choose another run.directory, or start again with "
            "--overwrite"
        )
    return True


def changes_of(job: Job) -> tuple[str, ...]:
    """Return what a resumed run may change, as the job has it: assignments for `read_job`."""
    may = MAY_CHANGE + MAY_MOVE
    return tuple(f"{key}={toml(v)}" for key, v in _keys(job).items() if key.startswith(may))


def _keys(job: Job) -> dict[str, object]:
    """Return what the job sets, as section.key and value."""
    data = job.model_dump(exclude={"name"}, exclude_none=True)
    return {f"{section}.{key}": v for section, keys in data.items() for key, v in keys.items()}
