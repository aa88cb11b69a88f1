"""Solve a job exactly: what `hpcq solve` does."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcq import disk
from hpcq.checkpoint import saving
from hpcq.checkpoint.reader import read_header
from hpcq.errors import CheckpointError, ExitCode, JobError
from hpcq.job.job import Job
from hpcq.mpi import agree, on_root, patient
from hpcq.run import run_directory, stored_job
from hpcq.run.beside import solved_directory
from hpcq.run.exploring import find_states, space_of
from hpcq.run.formatting import json_text, time_text
from hpcq.run.judging import expected_return, judge, left_by_a_sweep
from hpcq.run.loop import Log
from hpcq.run.newest_checkpoint import newest
from hpcq.run.resumable import holds_run_of
from hpcq.run.start_or_resume import locked
from hpcq.run.watchdog import Watchdog, patience
from hpcq.solver.iteration import Solution, Step
from hpcq.solver.memory import Shape
from hpcq.solver.memory import solving as solving_bytes
from hpcq.solver.solved import SolvedTable, one_table
from hpcq.solver.space import Stopped

# Without checkpoint.minutes.
SAVE_MINUTES = 15.0

GO_ON = "the same command and --resume"


def beside(job: Job) -> Job:
    """Return the job with a run directory for its solution, beside that of what it learns."""
    directory = str(solved_directory(Path(job.run.directory or Path("runs") / job.name)))
    run = job.run.model_copy(update={"directory": directory})
    return job.model_copy(update={"run": run})


def solve(
    job: Job,
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    overwrite: bool = False,
    resume: bool = False,
    policy: Path | None = None,
) -> ExitCode:
    """Compute the optimal values of all states that can be reached, and save them. Collective.

    Parameters
    ----------
    overwrite
        replace the run that the directory holds; without it that is an error.
    resume
        go on from its newest checkpoint, if it is this job's.
    policy
        a checkpoint whose greedy policy is compared with the optimum; what the directory has
        solved already is used.
    """
    comm = patient(comm)
    job = job.placed(on_root(comm, Path.cwd))
    resume = resume or (policy is not None and not overwrite)
    writer = agree(comm, lambda: saving.choose_writer(job.checkpoint.writer))
    with locked(job, comm) as (lock, watchdog):
        path = None
        if resume and on_root(comm, lambda: holds_run_of(job)):
            path, notes = newest(comm, job, False)
            for note in notes:
                log(note)
        else:
            on_root(comm, lambda: run_directory.check(job.directory, overwrite, GO_ON))
        run = _Run(job, comm, writer, log, pending_signals, watchdog)
        if overwrite:
            on_root(comm, lambda: run_directory.prepare(job.directory, job.text()))
        return run.solve(path, lambda: on_root(comm, lock.check), policy)


class _Run:
    """A solution on its way, with its run directory."""

    def __init__(
        self,
        job: Job,
        comm: MPI.Intracomm,
        writer: str,
        log: Log,
        pending_signals: list[int],
        watchdog: Watchdog,
    ) -> None:
        self._job, self._comm, self._writer, self._log = job, comm, writer, log
        self._pending, self._watchdog = pending_signals, watchdog
        self._space = space_of(job, comm, watchdog, lambda: bool(pending_signals))
        self._algorithm = one_table(job, self._space.environment)
        self._began = time.perf_counter()
        self._saved: tuple[Path, Any, dict[str, Any]] | None = None

    def solve(
        self, path: Path | None, check_lock: Callable[[], object], policy: Path | None
    ) -> ExitCode:
        """Explore, iterate, save; compare a policy with the optimum."""
        job, log, comm = self._job, self._log, self._comm
        environment = self._space.environment
        log(
            f"{job.name}: {environment.id}, solved on {comm.size} rank{'s' * (comm.size != 1)}, "
            f"gamma {job.learning.gamma:g}, tolerance {job.solve.tolerance:g}, "
            f"run directory {job.shown(job.directory)}"
        )
        try:
            levels = find_states(self._space, log, self._watchdog)
        except Stopped:
            log(f"stopped while states were counted; go on with {GO_ON}")
            return ExitCode.STOPPED
        self._check_memory()
        solution = Solution(
            self._space,
            job.learning.gamma,
            self._algorithm.rule.self_play,
            job.solve.method,
            job.solve.tolerance,
            check_ends=path is None,
        )
        if why := solution.problem.why_not:
            log(f"note: {why}")
        if path is not None and self._load(solution, path):
            log(f"{job.shown(job.directory)} is solved already")
            next(solution.steps(self._watchdog.beat))
            code = ExitCode.DONE
        else:
            code = self._iterate(solution, check_lock)
            if code == ExitCode.DONE:
                self._finish(solution, sum(level.states for level in levels))
        if policy is not None and code == ExitCode.DONE:
            if self._algorithm.rule.self_play:
                raise JobError(
                    "--policy: what a policy of two players is worth depends on both"
                ).on_all_ranks()
            judge(job, solution, policy, log, self._watchdog.beat)
        return code

    def _check_memory(self) -> None:
        space, rules = self._space, self._space.rules
        keeps = self._job.solve.keep_outcomes
        starts = -(-rules.starts // space.comm.size)
        shape = Shape(
            space.states, space.halo.size, space.actions, rules.outcomes, keeps, starts,
            rules.starts,
        )  # fmt: skip
        space.check_room(solving_bytes(shape) + space.kept_bytes)

    def _iterate(self, solution: Solution, check_lock: Callable[[], object]) -> ExitCode:
        shown = saved = time.perf_counter()
        every = 60 * (self._job.checkpoint.minutes or SAVE_MINUTES)
        before = solution.step
        for step in solution.steps(self._watchdog.beat):
            now = time.perf_counter()
            flags = np.array([bool(self._pending), now - saved > every, now - shown], np.float64)
            agreed = np.empty_like(flags)
            self._comm.Allreduce(flags, agreed, MPI.MAX)
            if step.done or agreed[2] > self._job.run.report_every or before.sweeps == 0:
                sweeps = max(1, step.sweeps - before.sweeps)
                self._report(step, (now - shown) / sweeps)
                shown, before = time.perf_counter(), step
            if agreed[0] or agreed[1] or step.done:
                check_lock()
                self._save(solution)
                saved = time.perf_counter()
            if agreed[0] and not step.done:
                self._log(f"stopped after {step.sweeps:,} sweeps; go on with {GO_ON}")
                return ExitCode.STOPPED
        return ExitCode.DONE

    def _report(self, step: Step, seconds: float) -> None:
        text = f"sweep {step.sweeps:,}"
        if step.evaluations:
            text += f" (and {step.evaluations:,} of the policy)"
        within = "" if np.isinf(step.bound) else f"values within {step.bound:.3g}, "
        if np.isfinite(step.rate_bound):
            within = f"average reward {step.reward_rate:.10g} within {step.rate_bound:.3g}, "
        self._log(f"{text}: {within}largest change {step.change:.3g}, {time_text(seconds)} a step")

    def _save(self, solution: Solution) -> None:
        job, comm, space = self._job, self._comm, self._space
        start = self._start(solution) if solution.step.done else None
        # Not before: without a checkpoint the directory holds nothing that cannot be made again.
        on_root(comm, lambda: stored_job.write(job.directory, job.text()))
        table = SolvedTable(job, space.environment, comm, solution, start)
        nbytes = comm.allreduce(len(table.shard)) * (8 + 8 * space.actions)
        with self._watchdog.patient(patience(nbytes)):
            saved = saving.save(table, job.directory, self._writer, job.checkpoint.keep)
        self._saved = (*saved, table.solution)

    @staticmethod
    def _start(solution: Solution) -> float | None:
        """Return the expected return; of an average reward make values relative to it. Collective.

        A value is then what is earned more, in the long run, than from a start state.
        """
        start = expected_return(solution)
        if not solution.problem.average:
            return start
        solution.relative_to(start)
        return None

    def _load(self, solution: Solution, path: Path) -> bool:
        """Go on from a checkpoint; return whether it holds the end."""
        header = on_root(self._comm, lambda: read_header(path))
        found = header.solution
        if not found:
            error = CheckpointError(f"{path} is of a learning run, not of a solution")
            raise error.on_all_ranks()
        values, actions = agree(self._comm, lambda: left_by_a_sweep(self._space, path))
        step = Step(
            found["sweeps"], found["evaluations"], math.inf, math.inf, False, found.get("rate", 0.0)
        )
        solution.resume(values, actions, step, found)
        if found["done"]:
            return True
        self._log(f"resuming {self._job.shown(path)} after sweep {found['sweeps']:,}")
        return False

    def _finish(self, solution: Solution, states: int) -> None:
        """Log how it ended, and write the summary."""
        assert self._saved is not None
        path, digest, about = self._saved
        step, seconds = solution.step, time.perf_counter() - self._began
        summary = {
            "job": self._job.name,
            "environment": self._space.environment.id,
            "solved": True,
            "bound": about["bound"],
            "start_value": about["start"],
            "sweeps": step.sweeps,
            "evaluations": step.evaluations,
            "states": states,
            "seconds": round(seconds, 3),
            "ranks": self._comm.size,
            "digest": str(digest),
            "checkpoint": str(self._job.shown(path)),
        }
        summary |= {name: about[name] for name in ("rate", "rate_bound") if name in about}
        text = json_text(summary, indent=1) + "\n"
        name = self._job.directory / run_directory.SUMMARY
        on_root(self._comm, lambda: disk.write_text(name, text))
        self._log(f"solved: {_found(about)}")
        self._log(
            f"done: {step.sweeps:,} sweeps, {step.evaluations:,} of the policy, {states:,} states, "
            f"{seconds:.1f} s, {self._comm.size} rank{'s' * (self._comm.size != 1)}"
        )
        self._log(f"digest {digest}")
        self._log(f"checkpoint {self._job.shown(path)}")


def _found(about: dict[str, Any]) -> str:
    """Return what a solution has come to, as text."""
    if "rate" in about:
        return (
            f"the average reward of a step is {about['rate']:.10g} "
            f"within {about['rate_bound']:.2g} (proven); values are relative to start states and "
            "have stopped changing"
        )
    start = f"expected return of the optimal policy {about['start']:.10g}"
    if about["bound"] is None:
        return f"values have stopped changing (no bound is proven); {start}"
    return f"every value is within {about['bound']:.2g} of the optimum (proven); {start}"
