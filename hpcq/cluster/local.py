"""The members of a sweep, or the runs of a scaling, on this machine: `hpcq sweep run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcq.cluster import scaling
from hpcq.cluster.collect import result_of
from hpcq.cluster.pool import Pool, cores, refuse_launcher
from hpcq.cluster.pool_view import PoolView
from hpcq.cluster.sweep import Member, Sweep
from hpcq.cluster.task import Task
from hpcq.errors import ExitCode, HpcqError, JobError, RunDirectoryError
from hpcq.job.job import Job
from hpcq.job.toml_io import toml
from hpcq.run.formatting import ranks_text
from hpcq.run.resumable import is_finished


def run_sweep(
    sweep: Sweep,
    overrides: Sequence[str],
    ranks: int | None,
    at_once: int | None,
    live: bool,
    retries: int = 0,
) -> int:
    """Run the members that are not done, and return an exit code; see `Pool.run`.

    Each is run as a job array on Slurm would: started or resumed, in the same run directory.

    Parameters
    ----------
    overrides
        with which the sweep was loaded.
    ranks
        of each member; None: one process, without a launcher.
    at_once
        members that run at a time; None: as many as there are cores for.
    live
        update a line of progress in place.
    retries
        of each member whose ranks are killed or stall; needs `ranks`.

    Raises
    ------
    JobError
        if a launcher has started this process, or the job file can be read once only.
    RunDirectoryError, StorageError
        if the sweep's folder, or a log in it, cannot be written.
    """
    refuse_launcher()
    if not Path(sweep.source).is_file():
        raise JobError(f"{sweep.source}: every member reads it: expected a file, not a pipe")
    words = [*_start(ranks, overrides, sweep.source), "--resume"]
    if retries:
        words += ["--retries", str(retries)]
    tasks = [
        Task(
            f"member {member.index}",
            (*words, "--member", str(member.index)),
            member.job.directory,
            member.job.run.steps,
            _log_of(member.job.directory),
        )
        for member in sweep.members
        if not _is_done(member)
    ]
    steps = sum(member.job.run.steps for member in sweep.members)
    pooled = _Tasks(sweep.source, tasks, len(sweep.members), steps)
    return pooled.run(at_once or max(1, cores() // (ranks or 1)), live)


def _start(ranks: int | None, overrides: Sequence[str], source: str) -> list[str]:
    """Return the words of a command that runs a job on so many ranks."""
    starts = [] if ranks is None else ["-n", str(ranks)]
    changes = [word for assignment in overrides for word in ("--set", assignment)]
    return ["run", source, *starts, "--no-live", *changes]


def _is_done(member: Member) -> bool:
    """Return whether a member is done; where its directory is amiss, `hpcq run` says how."""
    try:
        return result_of(member).status == "done" and is_finished(member.job)
    except HpcqError:
        return False


def run_scaling(
    path: Path,
    overrides: Sequence[str],
    ranks: int | None,
    repeat: int,
    overwrite: bool,
    live: bool,
) -> tuple[int, Path]:
    """Make the runs of a scaling one after the other; return an exit code, and their folder.

    They are timings: one that was stopped begins anew, at the next start.

    Parameters
    ----------
    ranks
        the most; None: as many as there are cores.
    overwrite
        also make anew the runs that are done.

    Raises
    ------
    JobError
        if a folder holds the run of another job.
    """
    refuse_launcher()
    job = Job.load(path, overrides)
    folder, tasks, steps = scaling.folder_of(job), [], 0
    planned = list(scaling.plan(job, ranks or cores(), repeat))
    for run in planned:
        directory, steps = folder / run.name, steps + run.steps
        changes = (*overrides, f"run.directory={toml(str(directory))}", *run.changes)
        if not overwrite and is_finished(Job.load(path, changes)):
            continue
        name = f"{run.kind}, {ranks_text(run.ranks)}, {run.repetition + 1} of {repeat}"
        words = (*_start(run.ranks, changes, str(path)), "--overwrite")
        tasks.append(Task(name, words, directory, run.steps, _log_of(directory)))
    return _Tasks(str(path), tasks, len(planned), steps).run(1, live), folder


def _log_of(directory: Path) -> Path:
    """Return the log of a run: beside its directory, which a new run empties."""
    return directory.with_name(f"{directory.name}.log")


@dataclass(frozen=True)
class _Tasks:
    """The runs of a job file that are not done, of so many with so many steps in all."""

    source: str
    tasks: list[Task]
    count: int
    steps: int

    def run(self, at_once: int, live: bool) -> int:
        """Run them, and return an exit code."""
        done = self.count - len(self.tasks)
        view = PoolView(self.tasks, done, self.steps - sum(t.steps for t in self.tasks), live)
        view.log(f"{self.source}: {self.count} runs{f', {done} of them done' if done else ''}")
        if not self.tasks:
            return ExitCode.DONE
        folders = sorted({task.log.parent for task in self.tasks})
        view.log(f"{min(at_once, len(self.tasks))} at a time; logs: {folders[0]}/*.log")
        for folder in folders:
            _make(folder)
        code = Pool(self.tasks, at_once, view).run()
        if code == ExitCode.STOPPED:
            view.log("stopped; the same command goes on")
        return code


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"{folder}: cannot be made: {error.strerror}; choose another folder with "
            "--set run.directory=DIR"
        ) from None
