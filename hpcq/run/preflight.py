"""A short flight before training, on every rank, so that mistakes come early and as one message."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from hpcq.collectors.checked import MAX_REWARD
from hpcq.collectors.choose import make_collector
from hpcq.collectors.collector import block
from hpcq.envs.adapter import PythonEnvironment
from hpcq.envs.compiled import CompiledEnvironment
from hpcq.envs.load import told
from hpcq.errors import EnvironmentFault
from hpcq.hashing import environment_words, seed_word
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.learning.evaluation import evaluating
from hpcq.learning.warm import warm
from hpcq.native.kernels import bind
from hpcq.native.origin import is_kernel, is_ours
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import legal_actions

STEPS = 10
COMPILED_STEPS = 200


def check(
    job: Job, environment: PythonEnvironment | CompiledEnvironment, rank: int, ranks: int
) -> None:
    """Reset this rank's first environment (or VectorEnv) and take a few steps with every action.

    Raises
    ------
    EnvironmentFault
        naming the environment, the tick, the episode and the action.
    """
    if isinstance(environment, CompiledEnvironment):
        return
    unit = environment.vector or 1
    start, _ = block(rank, ranks, job.environment.count, unit)
    seed = seed_word(job.run.seed)
    collector = make_collector(environment, seed, start, unit, STEPS)
    try:
        collector.begin()
        numbers = np.arange(unit)
        for tick in range(1, STEPS + 1):
            collector.actors.hash[:] = collector.actors.next
            wanted = (numbers + tick - 1) % environment.actions
            if environment.masked:
                wanted = _legal_from(wanted, collector.actors.next_mask, environment.actions)
            collector.actors.action[:] = wanted
            collector.step(tick)
    finally:
        collector.close()


def _legal_from(wanted: NDArray, masks: NDArray[np.uint64], actions: int) -> NDArray:
    """Return for each number the first legal action from it on, in a circle."""
    order = (wanted[:, None] + np.arange(actions)) % actions
    legal = np.take_along_axis(legal_actions(masks, actions), order, axis=1)
    return order[np.arange(wanted.size), legal.argmax(axis=1)]


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
        warm(job, environment, modes.learner)
        if job.evaluation.every is not None:
            warm(evaluating(job), environment)
        if own:
            check_compiled(own)
    except EnvironmentFault as error:
        fault = error
    except Exception as error:
        if not own:
            raise
        text = str(error) if isinstance(error, NumbaError) else told(error)
        fault = EnvironmentFault(f"{environment.id} cannot be compiled:\n{text}")
    return result


def _trace(model, draws, actions, before, keys, rewards, ends):
    """Walk along and write down every step; `before[0]` comes from a reset."""
    key = reset(model, draws[0])
    for t in range(actions.size):
        before[t] = key
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
    n, model = COMPILED_STEPS, environment.model
    draws = environment_words(seed_word(0), 0, n + 1)
    actions = np.arange(n) * 7 // 3 % environment.actions
    before, keys = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    rewards, ends = np.zeros(n), np.zeros(n, np.bool_)
    trace = bind(_trace, step=environment.step, reset=environment.reset)
    trace(model, draws, actions, before, keys, rewards, ends)
    pure_reset, pure_step = plain(environment.reset), plain(environment.step)
    states = Codec(environment.observation).size
    first = _call(environment, "reset(model, draw)", pure_reset, model, draws[0])
    if int(first) != before[0]:
        raise EnvironmentFault(
            f"{environment.id}: reset(model, draw={draws[0]}) gives {before[0]} compiled, but "
            f"{first} in plain Python"
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
            f"{environment.id}: {where} in plain Python raised\n{told(error)}"
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
