"""What a run directory holds to resume: its job, and its newest whole checkpoint."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcq.checkpoint.files import Listed, by_step, list_aside, rename_by_step, set_aside
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.reader import verify
from hpcq.errors import CheckpointError, FormatError, HpcqError, JobError
from hpcq.job import renamed
from hpcq.job.job import Job
from hpcq.job.toml_io import beside, override, placeless, toml
from hpcq.printable import printable
from hpcq.run import run_directory, stored_job

MAY_CHANGE = (
    "run.steps",
    "run.cut_episodes",
    "run.report_every",
    "run.stall_timeout",
    "run.table_gib",
    "run.tensorboard",
    "environment.info",
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


def read_job(
    directory: Path,
    overrides: tuple[str, ...],
    relearn: bool,
    log: Callable[[str], object] = lambda line: None,
) -> Job:
    """Return the job of a run directory: that of job.json, or where it is lost of a checkpoint.

    Parameters
    ----------
    relearn
        whether keys that shape learning may change, too: `--override`.
    log
        is told where the job comes from, if not from job.json.
    """
    for assignment in overrides:
        if moved := renamed.key_message(assignment.partition("=")[0].strip()):
            raise JobError(f"--set {assignment}: {moved}")
        if not assignment.startswith(MAY_CHANGE + MAY_MOVE + (MAY_OVERRIDE if relearn else ())):
            raise _kept(f"--set {assignment}", relearn)
    stored = stored_job.read(directory)
    if stored is None:
        raise CheckpointError(
            f"{directory} holds no run (no {stored_job.NAME}); expected a run directory, such as "
            "runs/NAME of an earlier `hpcq run`; to use the table of a checkpoint, "
            "start a run with --set run.start_from=CHECKPOINT"
        )
    data, source = stored.data, str(stored.source)
    before = Job.check(copy.deepcopy(data), source)
    override(data, overrides)
    beside(data, Path())
    data["run"]["directory"] = str(directory)
    job = Job.check(data, source)
    if any(key in MAY_MOVE for key in job.differences(before)):
        raise _kept(f"--set {' '.join(overrides)}", relearn)
    if stored.fault:
        _check_code(stored, before, overrides)
        log(stored.fault)
    name = placeless(job.environment.id)
    check_places(job, f"if it has moved: --set environment.id=FOLDER/{name}")
    return job


def _check_code(stored: stored_job.Stored, job: Job, overrides: tuple[str, ...]) -> None:
    """Refuse to import what a checkpoint names, unless the user names it, too."""
    named = {
        "environment.id": [job.environment.id],
        "environment.wrappers": [wrapper.entry for wrapper in job.environment.wrappers],
    }
    for key, entries in named.items():
        given = any(one.partition("=")[0].strip() == key for one in overrides)
        if not given and any(":" in entry for entry in entries):
            raise CheckpointError(
                f"{stored.fault}; but that names code of its own, {printable(', '.join(entries))}, "
                "and nothing is imported because a checkpoint names it: if it is yours, add "
                f"--set {key}={printable(toml(_keys(job)[key]))}, or give the job file: "
                "`hpcq run JOB.toml --resume`"
            )


def _kept(source: str, relearn: bool) -> JobError:
    also = f" and {', '.join(MAY_OVERRIDE)}" if relearn else ""
    with_override = "" if relearn else f"; with --override also {', '.join(MAY_OVERRIDE)}"
    return JobError(
        f"{source}: a resumed run keeps its job, but for run.steps, run.cut_episodes, "
        "run.report_every, run.stall_timeout, run.table_gib, run.tensorboard, environment.info, "
        "checkpoint.*, "
        f"stop.*, the folder of the file in environment.id{also}{with_override}; to change more, "
        "start a new run from this table with --set run.start_from=CHECKPOINT and another "
        "run.directory"
    )


def check_places(job: Job, advice: str) -> None:
    """Raise a JobError with advice if the file of the job's environment is not there."""
    place, _, _ = job.environment.id.rpartition(":")
    if place.endswith(".py") and not Path(place).exists():
        raise JobError(f"{job.source}: environment.id: no file {place}; {advice}")


def newest(directory: Path, job: Job, relearn: bool) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint (None before the first), and lines to log.

    Damaged files that are newer are set aside once a whole one is found, so that they no longer
    count as some of those to keep; a file whose name lies gets the right one.

    Raises
    ------
    CheckpointError
        if none is whole, or the newest whole one is of another job. Nothing is renamed.
    UnreadableError, DependencyError
        if one could not be looked into before a whole one was found. Nothing is renamed.
    """
    damaged: dict[Path, CheckpointError] = {}
    listed = by_step(directory)
    for one in listed:
        try:
            if isinstance(one.found, HpcqError):
                raise one.found
            header, _ = verify(one.path, one.found)
        except FormatError:
            raise
        except CheckpointError as error:
            damaged[one.path] = error
            continue
        notes = _differences(one.path, header, job, relearn)
        set_aside_damaged = [
            f"skipped {error}; renamed to {set_aside(path).name}" for path, error in damaged.items()
        ]
        path, renamed_to = _rename_by_step(listed, one)
        return path, set_aside_damaged + renamed_to + notes
    if damaged:
        raise CheckpointError(
            f"{directory}: no checkpoint is whole:\n{_texts(damaged)}\n"
            "start again from the beginning with `hpcq run JOB.toml --overwrite`"
        )
    if aside := list_aside(directory):
        raise CheckpointError(
            f"{directory}: no checkpoint but those set aside as damaged: "
            f"{', '.join(path.name for path in aside)}; give one its old name to have it looked "
            "into again, or start from the beginning with `hpcq run JOB.toml --overwrite`"
        )
    return None, [f"no checkpoint in {directory} yet: starting from the beginning"]


def _texts(errors: Mapping[Path, CheckpointError]) -> str:
    return "\n".join(map(str, errors.values()))


def _differences(path: Path, header: Header, job: Job, relearn: bool) -> list[str]:
    """Return lines on what is overridden; refuse a checkpoint that differs in anything else."""
    differences = job.differences(Job.saved(json.loads(header.job), str(path)))
    refused = [key for key in differences if not (relearn and key in MAY_OVERRIDE)]
    if refused:
        raise CheckpointError(
            f"{path} was written by another job: "
            + "; ".join(printable(differences[key]) for key in refused)
            + (
                "\nto go on in spite of this, add --override"
                if not relearn and set(refused) <= set(MAY_OVERRIDE)
                else ""
            )
        )
    notes = [f"overridden: {printable(text)}" for text in differences.values()]
    if differences and (warning := uncounted(header, job)):
        notes.append(warning)
    return notes


def uncounted(header: Header, job: Job) -> str:
    """Return a warning where a learning rate by visits meets a table that has counted none."""
    rate = job.learning.learning_rate
    if header.visits or not rate.counts_visits or not header.rows:
        return ""
    return (
        "warning: the table has counted no visits, so learning_rate begins anew: the first update "
        f"of each state and action takes the rate {rate.terms.start:g}"
        + (", which replaces what was learned" if rate.terms.start == 1 else "")
        + "; give learning_rate a smaller start, or a rate that does not follow visits"
    )


def _rename_by_step(listed: Sequence[Listed], newest: Listed) -> tuple[Path, list[str]]:
    """Give every misnamed checkpoint its right name; return that of the newest, and lines to log.

    From here on names tell steps: pruning goes by them.
    """
    path, notes = newest.path, []
    for one in listed:
        if one.misnamed:
            renamed_to = rename_by_step(one)
            notes.append(f"{one.misnamed}; renamed to {renamed_to.name}")
            path = renamed_to if one is newest else path
    return path, notes


def holds_run_of(job: Job) -> bool:
    """Return whether the job's directory holds a run, which must be this job's.

    Raises
    ------
    JobError
        naming the keys that differ.
    """
    there = _stored_keys(job)
    if there is None:
        return False
    here = _keys(job)
    # A job that leaves it out has got it at its first start.
    settled = () if "mode.agents" in here else ("mode.agents",)
    differences = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in {**there, **here}
        if here.get(key) != there.get(key)
        and not (key in MAY_MOVE and placeless(here.get(key)) == placeless(there.get(key)))
        and not key.startswith((*MAY_CHANGE, "run.directory", *settled))
    ]
    if differences:
        raise JobError(
            f"{job.source}: {job.directory} holds the run of another job "
            f"({printable('; '.join(differences))}); choose another run.directory, or start again "
            "with --overwrite"
        )
    return True


def is_finished(job: Job) -> bool:
    """Return whether the job's directory holds its run, finished, which the job does not extend.

    Raises
    ------
    JobError
        if it holds the run of another job.
    """
    if not holds_run_of(job) or not (job.directory / run_directory.SUMMARY).exists():
        return False
    here, there = _keys(job), _stored_keys(job) or {}
    lengths = [key for key in {**here, **there} if key.startswith(("run.steps", "stop."))]
    return all(here.get(key) == there.get(key) for key in lengths)


def changes_of(job: Job) -> tuple[str, ...]:
    """Return what a resumed run may change, as the job has it: assignments for `read_job`."""
    may = MAY_CHANGE + MAY_MOVE
    return tuple(f"{key}={toml(v)}" for key, v in _keys(job).items() if key.startswith(may))


def _stored_keys(job: Job) -> dict[str, object] | None:
    """Return the keys of the run in the job's directory; None if there is none."""
    stored = stored_job.read(job.directory)
    return None if stored is None else _keys(Job.check(stored.data, str(stored.source)))


def _keys(job: Job) -> dict[str, object]:
    """Return what the job sets, as section.key and value."""
    data = job.model_dump(exclude={"name"}, exclude_none=True)
    return {f"{section}.{key}": v for section, keys in data.items() for key, v in keys.items()}
