"""Compile a job's kernels before its first tick."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import numba
from numba.core.errors import NumbaError

from hpcq.envs.guest import format_error
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.validate import check_compiled
from hpcq.errors import DependencyError, EnvironmentFault
from hpcq.jit.fingerprint import is_ours
from hpcq.job.job import Job
from hpcq.learning.warmup import warm_up


def compiled(
    job: Job, environment: PythonEnvironment | CompiledEnvironment, ranks: int, nodes: int
) -> Callable[[], None]:
    """Compile every kernel of the job; return a function that raises the error, if there is one.

    A user's compiled environment is also checked against plain Python.

    Parameters
    ----------
    ranks, nodes
        that the job is to run on.
    """

    def result() -> None:
        if fault is not None:
            raise fault

    fault: EnvironmentFault | None = None
    try:
        with _faults_of(environment):
            warm_up(job, environment, ranks, nodes)
            if _is_own(environment):
                check_compiled(environment)
    except EnvironmentFault as error:
        fault = error
    return result


def check_compiler() -> None:
    """Refuse to train where numba does not compile; a file `.numba_config.yaml` can say so, too.

    Raises
    ------
    DependencyError
        naming the remedy.
    """
    if getattr(numba.config, "DISABLE_JIT", 0):
        raise DependencyError(
            "numba is told not to compile (NUMBA_DISABLE_JIT, or disable_jit in "
            f"{Path.cwd() / '.numba_config.yaml'}): there are no kernels then; take that away"
        )


def check_own(environment: PythonEnvironment | CompiledEnvironment) -> None:
    """Compare a user's compiled environment with plain Python; others are not looked at.

    Raises
    ------
    EnvironmentFault
        if it cannot be compiled, or differs.
    """
    if _is_own(environment):
        with _faults_of(environment):
            check_compiled(environment)


def _is_own(
    environment: PythonEnvironment | CompiledEnvironment,
) -> TypeGuard[CompiledEnvironment]:
    return isinstance(environment, CompiledEnvironment) and not is_ours(environment.step)


@contextmanager
def _faults_of(environment: PythonEnvironment | CompiledEnvironment) -> Iterator[None]:
    """Turn errors into an `EnvironmentFault` where the user's own kernels are compiled."""
    try:
        yield
    except EnvironmentFault:
        raise
    except Exception as error:
        if not _is_own(environment):
            raise
        if isinstance(error, NumbaError):
            text = _reason(error, environment)
        else:
            text = format_error(error)
        raise EnvironmentFault(f"{environment.id} cannot be compiled:\n{text}") from None


def _reason(error: NumbaError, environment: CompiledEnvironment) -> str:
    """Return the part of numba's message that a user needs: the reason and the line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    at = next(i for i, line in enumerate(lines) if not line.startswith("Failed in nopython mode"))
    # A line that ends with a colon goes on in the next one.
    reason = " ".join(line.strip() for line in lines[at : at + 1 + lines[at].endswith(":")])
    function = getattr(environment.step, "py_func", environment.step)
    file = Path(function.__code__.co_filename)
    places = [line for line in lines if re.search(rf'"(.*/)?{re.escape(file.name)}"?.*\d', line)]
    where = re.search(r"\d+", places[-1].rpartition(file.name)[2]) if places else None
    return (
        f"{reason}\n"
        + (f"{file}, line {where[0]}\n" if where else "")
        + "expected kernels (@kernel): reset(model, draw) -> key, "
        "step(model, key, action, draw) -> (key, reward, terminated), and with masks "
        "legal(model, key) -> bits; chance comes from draw alone (see hpcq.unit_interval)"
    )
