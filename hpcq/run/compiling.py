"""Compile a job's kernels before its first tick, and try the user's own beside plain Python."""

import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.core.errors import NumbaError

from hpcq.collectors.validation import MAX_REWARD
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import format_error
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import EnvironmentFault
from hpcq.jit.compiler import bind, kernel
from hpcq.jit.fingerprint import is_kernel, is_ours
from hpcq.job.job import Job
from hpcq.learning.warmup import warm_up
from hpcq.rng import environment_streams, seed_word
from hpcq.spaces.codec import Codec

STEPS = 200


def compiled(job: Job, environment: PythonEnvironment | CompiledEnvironment) -> Callable[[], None]:
    """Compile every kernel of the job; return a function that raises what went wrong, if it did.

    A compiled environment of the user's own must also do the same as plain Python.
    """

    def result() -> None:
        if fault is not None:
            raise fault

    fault: EnvironmentFault | None = None
    own = None
    if isinstance(environment, CompiledEnvironment) and not is_ours(environment.step):
        own = environment
    try:
        warm_up(job, environment)
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
    """Return what a user needs of numba's many lines: the first reason, and where in their file."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    at = next(i for i, line in enumerate(lines) if not line.startswith("Failed in nopython mode"))
    # Where a line ends with a colon, the next one says what it is about.
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


@kernel
def _first_legal(mask, wanted, actions):
    """Return the first legal action from `wanted` on, in a circle; `wanted` where none is."""
    for k in range(actions):
        action = (wanted + k) % actions
        if (mask >> np.uint64(action)) & np.uint64(1):
            return action
    return wanted


def _trace(model, draws, actions, before, keys, rewards, ends):
    """Walk along and write down every step; `before[0]` comes from a reset.

    actions   int64 (n,), in and out: those wanted, then the legal ones that were taken instead
    """
    key = reset(model, draws[0])
    for t in range(actions.size):
        before[t] = key
        if MASKED:
            actions[t] = first_legal(legal(model, key), actions[t], ACTIONS)
        key, reward, terminated = step(model, key, actions[t], draws[t + 1])
        keys[t], rewards[t], ends[t] = key, reward, terminated
        if terminated:
            key = reset(model, draws[t + 1])


def check_compiled(environment: CompiledEnvironment) -> None:
    """Compare the compiled functions with a pure-Python run of the same, step by step.

    Raises
    ------
    EnvironmentFault
        naming the first step that differs, or leaves the space.
    """
    n, model = STEPS, environment.model
    draws = environment_streams(seed_word(0), 0, n + 1)
    actions = np.arange(n) * 7 // 3 % environment.actions
    before, keys = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    rewards, ends = np.zeros(n), np.zeros(n, np.bool_)
    trace = bind(
        _trace,
        step=environment.step,
        reset=environment.reset,
        legal=environment.legal,
        first_legal=_first_legal,
        MASKED=environment.masked,
        ACTIONS=environment.actions,
    )
    trace(model, draws, actions, before, keys, rewards, ends)
    pure_reset, pure_step = plain(environment.reset), plain(environment.step)
    states = Codec(environment.observation).size
    first = _call(environment, "reset(model, draw)", pure_reset, model, draws[0])
    if int(first) != before[0]:
        raise EnvironmentFault(
            f"{environment.id}: reset(model, draw={draws[0]}) gives {before[0]} compiled, but "
            f"{first} in plain Python"
        )
    if before[0] >= states:
        raise EnvironmentFault(
            f"{environment.id}: reset(model, draw={draws[0]}) gives {before[0]}, expected a key in "
            f"0 ... {states - 1}"
        )
    for t in range(n):
        key, action, draw = int(before[t]), int(actions[t]), draws[t + 1]
        where = f"step(model, key={key}, action={action}, draw={draw})"
        found = (int(keys[t]), float(rewards[t]), bool(ends[t]))
        if key >= states or found[0] >= states or not abs(found[1]) <= MAX_REWARD:
            raise EnvironmentFault(
                f"{environment.id}: {where} gives {found}, expected keys in 0 ... {states - 1} and "
                f"a finite reward of at most {MAX_REWARD:g} in size"
            )
        if environment.masked:
            _check_mask(environment, key)
        expected = _call(environment, where, pure_step, model, key, action, draw)
        same = (
            int(expected[0]) == found[0]
            and np.isclose(expected[1], found[1], rtol=1e-9, atol=0)
            and bool(expected[2]) == found[2]
        )
        if not same:
            raise EnvironmentFault(
                f"{environment.id}: {where} gives {found} compiled, but {expected} in plain "
                "Python; are all integers that meet a uint64 np.uint64 themselves?"
            )


def _check_mask(environment: CompiledEnvironment, key: int) -> None:
    """Compare the legal actions of a state with plain Python's; there must be some."""
    where = f"legal(model, key={key})"
    found = int(environment.legal(environment.model, np.uint64(key)))
    expected = _call(
        environment, where, plain(environment.legal), environment.model, np.uint64(key)
    )
    if found != int(expected):
        raise EnvironmentFault(
            f"{environment.id}: {where} gives {found:#b} compiled, but {int(expected):#b} in plain "
            "Python; are all integers that meet a uint64 np.uint64 themselves?"
        )
    if found & ((1 << environment.actions) - 1) == 0:
        raise EnvironmentFault(
            f"{environment.id}: {where} gives {found:#b}, which permits none of the "
            f"{environment.actions} actions"
        )


def _call(environment: CompiledEnvironment, where: str, function: Callable, *values: Any) -> Any:
    try:
        with np.errstate(over="ignore"):
            return function(*values)
    except Exception as error:
        raise EnvironmentFault(
            f"{environment.id}: {where} in plain Python raised\n{format_error(error)}"
        ) from error


def plain(kernel: Any) -> Callable:
    """Return the Python function of a kernel, calling the Python functions of other kernels."""
    if is_ours(kernel):
        return _keeping_uint64(kernel)
    function = kernel.py_func
    others = {
        name: plain(value)
        for name, value in function.__globals__.items()
        if name in function.__code__.co_names and is_kernel(value) and value is not kernel
    }
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **others},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _keeping_uint64(kernel: Any) -> Callable:
    """Kernels return Python's integers; a uint64 must go on as one."""

    def call(*values: Any) -> Any:
        result = kernel(*values)
        unsigned = all(s.return_type == numba_types.uint64 for s in kernel.nopython_signatures)
        return np.uint64(result) if unsigned else result

    return call
