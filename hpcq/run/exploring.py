"""Count the states of a job: what `hpcq explore` does, and `hpcq solve` begins with."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numba.core.errors import NumbaError

from hpcq import disk
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import EnvironmentFault, ExitCode, JobError
from hpcq.job.job import Job
from hpcq.mpi import agree, first_on_each_node, on_root, patient
from hpcq.run.formatting import rate_text
from hpcq.run.loop import Log
from hpcq.run.start_or_resume import resolve_environment
from hpcq.run.watchdog import START_SECONDS, Watchdog
from hpcq.solver.export import arrays_of
from hpcq.solver.solved import one_table
from hpcq.solver.space import Level, StateSpace, Stopped
from hpcq.solver.warmup import warm_up
from hpcq.spaces.codec import Codec


def explore(
    job: Job,
    comm: MPI.Intracomm,
    log: Log,
    pending_signals: list[int],
    root: Any = None,
    export: Path | None = None,
) -> ExitCode:
    """Find all states that can be reached, and print them by level. Collective.

    Parameters
    ----------
    root
        an observation to begin with, instead of the start states.
    export
        an .npz file for all outcomes, as envs/arrays.py reads them; needs one rank.
    """
    comm = patient(comm)
    on_root(comm, lambda: _check_export(export, comm.size))
    with Watchdog(comm, job.run.stall_timeout) as watchdog:
        space = space_of(job, comm, watchdog, lambda: bool(pending_signals))
        key = None if root is None else agree(comm, lambda: _key(space, root))
        try:
            find_states(space, log, watchdog, key)
        except Stopped:
            log("stopped: not all states are counted")
            return ExitCode.STOPPED
        if export is not None:
            on_root(comm, lambda: _export(space, export))
            log(f"outcomes in {export}")
    return ExitCode.DONE


def space_of(
    job: Job, comm: MPI.Intracomm, watchdog: Watchdog, stopped: Callable[[], bool]
) -> StateSpace:
    """Return the state space of a job, its kernels compiled. Collective."""

    def environment() -> CompiledEnvironment:
        found = resolve_environment(job)
        if not isinstance(found, CompiledEnvironment) or found.rules is None:
            raise JobError(
                f"{job.source}: {found.id} does not say what can happen: only environments with "
                "rules can be explored and solved; the README of hpcq/envs says how to write them"
            )
        one_table(job, found)
        return found

    with watchdog.patient(START_SECONDS):
        found = agree(comm, environment)
        with first_on_each_node(comm):
            fault = _compile(found)
        agree(comm, fault)
    return StateSpace(comm, found, job.run.table_gib, stopped, job.solve.keep_outcomes)


def _compile(environment: CompiledEnvironment) -> Callable[[], None]:
    """Compile all kernels; return a function that raises the error, if there is one."""
    fault: EnvironmentFault | None = None
    try:
        warm_up(environment)
    except NumbaError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        fault = EnvironmentFault(
            f"{environment.id}: its rules cannot be compiled: {' '.join(lines[:3])}"
        )

    def result() -> None:
        if fault is not None:
            raise fault

    return result


def _key(space: StateSpace, root: Any) -> int:
    try:
        return Codec(space.environment.observation).encode(root)
    except ValueError as error:
        raise JobError(f"--start {root}: {error}") from None


def _check_export(path: Path | None, ranks: int) -> None:
    if path is not None and (ranks > 1 or path.suffix != ".npz"):
        raise JobError("--export writes an .npz file, on one rank")


def _export(space: StateSpace, path: Path) -> None:
    """Write the outcomes as arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = arrays_of(space)
    np.savez(buffer, **arrays)
    disk.write(path, buffer.getvalue())


def find_states(
    space: StateSpace, log: Log, watchdog: Watchdog, root: int | None = None
) -> list[Level]:
    """Find all states; print how many in which level, and how fast."""
    start = time.perf_counter()
    levels = [space.begin(root)]
    if not levels[0].states:
        raise JobError(f"{space.environment.id} has no start state: nothing can be reached")
    log("depth              states")
    log(f"{0:5} {levels[0].states:19,}")
    for level in space.levels(levels[0], watchdog.beat):
        log(f"{level.depth:5} {level.states:19,}")
        levels.append(level)
    seconds = time.perf_counter() - start
    states = sum(level.states for level in levels)
    pairs, outcomes = space.totals()
    nbytes = space.comm.allreduce(space.nbytes, MPI.MAX)
    log(
        f"{states:,} states, {pairs:,} legal actions in them, {outcomes:,} outcomes that go on, "
        f"{len(levels)} level{'s' * (len(levels) > 1)}; {seconds:.1f} s, "
        f"{rate_text(states / seconds)} states/s, {nbytes / 2**30:.2f} GiB a rank"
    )
    return levels
