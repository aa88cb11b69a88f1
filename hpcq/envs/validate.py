"""Check that a user's compiled environment does the same as its plain Python functions."""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numpy.typing import NDArray

from hpcq.envs.guest import format_error
from hpcq.envs.protocol import MAX_REWARD, CompiledEnvironment, make_ask_legal
from hpcq.errors import EnvironmentFault
from hpcq.jit.compiler import inlined, kernel
from hpcq.jit.fingerprint import is_kernel, is_ours
from hpcq.rng import environment_streams, seed_word
from hpcq.spaces.codec import Codec
from hpcq.spaces.mask_kernels import mask_tests
from hpcq.spaces.masks import BITS, shape_of, words_of

STEPS = 200


def _make_trace(environment: CompiledEnvironment) -> Any:
    """Return the kernel that takes a step per action and records every one.

    Its arguments:

    actions   int64 (n,), in and out: the wanted ones, then the legal ones that were taken instead
    masks     uint64 (1,), or (1, words), scratch
    before    uint64 (n,), out: the keys that were stepped from; ``before[0]`` is from a reset
    """
    reset, step = environment.reset, environment.step
    masked, count = environment.masked, environment.actions
    ask_legal = make_ask_legal(environment.legal, words_of(count, masked))
    is_legal = mask_tests(count).has

    @inlined
    def first_legal(masks: Any, wanted: int) -> int:
        """Return the first legal action from `wanted` on, cyclically; `wanted` if none is legal."""
        for k in range(count):
            action = (wanted + k) % count
            if is_legal(masks[0], action):
                return action
        return wanted

    @kernel
    def trace(
        model: Any,
        masks: Any,
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
                ask_legal(model, key, masks, 0)
                actions[t] = first_legal(masks, actions[t])
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
    masks = np.zeros((1, *shape_of(words_of(environment.actions))), np.uint64)
    _make_trace(environment)(model, masks, draws, actions, before, keys, rewards, ends)
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
    masked_plainly = dataclasses.replace(environment, legal=plain(environment.legal))
    words = words_of(environment.actions)
    where = f"legal(model, key={key}{', mask' if words > 1 else ''})"
    found = _number(environment.mask(key))
    expected = _number(_call(environment, where, masked_plainly.mask, key))
    if found != expected:
        raise EnvironmentFault(
            f"{environment.id}: {where} gives {found:#b} compiled, but {expected:#b} in plain "
            "Python; are all integers that meet a uint64 np.uint64 themselves?"
        )
    if found & ((1 << environment.actions) - 1) == 0:
        raise EnvironmentFault(
            f"{environment.id}: {where} gives {found:#b}, which permits none of the "
            f"{environment.actions} actions"
        )


def _number(mask: NDArray[np.uint64]) -> int:
    """Return an array of one mask as a number."""
    return sum(int(word) << BITS * place for place, word in enumerate(mask.ravel()))


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
