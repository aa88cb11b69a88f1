"""Compile a job's kernels before its first tick."""

import re
from collections.abc import Callable
from pathlib import Path

from numba.core.errors import NumbaError

from hpcq.envs.guest import format_error
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.validate import check_compiled
from hpcq.errors import EnvironmentFault
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
    own = None
    if isinstance(environment, CompiledEnvironment) and not is_ours(environment.step):
        own = environment
    try:
        warm_up(job, environment, ranks, nodes)
        if own:
            check_compiled(own)
    except EnvironmentFault as error:
        fault = error
    except Exception as error:
        if not own:
            raise
        text = _reason(error, own) if isinstance(error, NumbaError) else format_error(error)
        fault = EnvironmentFault(f"{environment.id} cannot be compiled:\n{text}")
    return result


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
