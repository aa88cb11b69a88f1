"""Check that a user's compiled environment does the same as its plain Python functions."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numpy.typing import NDArray

from hpcq.envs.guest import format_error
from hpcq.envs.protocol import MAX_REWARD, CompiledEnvironment, all_legal
from hpcq.errors import EnvironmentFault
from hpcq.jit.compiler import kernel
from hpcq.jit.fingerprint import is_kernel, is_ours
from hpcq.rng import environment_streams, seed_word
from hpcq.spaces.codec import Codec

STEPS = 200


@kernel
def _first_legal(mask: np.uint64, wanted: int, actions: int) -> int:
    """Return the first legal action from `wanted` on, cyclically; `wanted` if none is legal."""
    for k in range(actions):
        action = (wanted + k) % actions
        if (mask >> np.uint64(action)) & np.uint64(1):
            return action
    return wanted


def _make_trace(environment: CompiledEnvironment) -> Any:
    """Return the kernel that takes a step per action and records every one.

    Its arguments:

    actions   int64 (n,), in and out: the wanted ones, then the legal ones that were taken instead
    before    uint64 (n,), out: the keys that were stepped from; ``before[0]`` is from a reset
    """
    reset, step = environment.reset, environment.step
    masked, count = environment.masked, environment.actions
    legal = environment.legal if masked else all_legal

    @kernel
    def trace(
        model: Any,
        draws: NDArray[np.uint64],
        actions: NDArray[np.int64],
        before: NDArray[np.uint64],
        keys: NDArray[np.uint64],
        rewards: NDArray[np.float64],
        ends: NDArray[np.bool_],
    ) -> None:
        key = reset(model, draws[0])
        for t in range(actions.size):
            before[t] = key
            if masked:
                actions[t] = _first_legal(legal(model, key), actions[t], count)
            key, reward, terminated = step(model, key, actions[t], draws[t + 1])
            keys[t], rewards[t], ends[t] = key, reward, terminated
            if terminated:
                key = reset(model, draws[t + 1])

    return trace


def check_compiled(environment: CompiledEnvironment) -> None:
    """Compare the compiled functions with the same in plain Python, step by step.

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
    _make_trace(environment)(model, draws, actions, before, keys, rewards, ends)
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
    """Compare the legal actions of a state with plain Python's; one must be legal."""
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
    """Return the Python function of a kernel; the kernels that it calls are plain, too."""
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
    """Return a kernel's plain call; where it gives a uint64, not as the int that numba returns."""

    def call(*values: Any) -> Any:
        result = kernel(*values)
        unsigned = all(s.return_type == numba_types.uint64 for s in kernel.nopython_signatures)
        return np.uint64(result) if unsigned else result

    return call
