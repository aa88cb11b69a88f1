"""The job of a run directory: what a resumed run keeps of it, and what it may change."""

import copy
from collections.abc import Callable
from pathlib import Path

from hpcq.checkpoint.header import Header
from hpcq.errors import CheckpointError, JobError
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
