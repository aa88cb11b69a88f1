"""What kernels need to wait for another process: atomic words, the clock, and sleep in the kernel.

A word is an int32 of an array, alone in its cache line: (n, 16), of which column 0 is used.
"""

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from hpcq.jit.compiler import intrinsic
from hpcq.jit.memory import pointer_to

# int32 in a cache line.
LINE = 16

_I32, _I64 = ir.IntType(32), ir.IntType(64)

_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
# An unknown processor's call fails, and waiting goes on with looking.
_FUTEX_CALL = _FUTEX.get(platform.machine(), -1)
_WAIT, _WAKE, _EVERYBODY = 0, 1, 0x7FFFFFFF
_MONOTONIC = 1
# What lets the other thread of a core work while this one looks.
_PAUSE = {"x86_64": "llvm.x86.sse2.pause"}.get(platform.machine())


def _futex(builder: Any, pointer: Any, operation: int, value: Any, timeout: Any) -> None:
    """Call futex(2), which has no function of its own in the C library."""
    zero = ir.Constant(_I64, 0)
    address = builder.ptrtoint(pointer, _I64)
    numbers = ir.Constant(_I64, _FUTEX_CALL), address, ir.Constant(_I64, operation), value
    kind = ir.FunctionType(_I64, [_I64] * 7)
    function = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    builder.call(function, [*numbers, timeout, zero, zero])


@intrinsic
def load(typingctx: Any, words: Any, index: Any) -> Any:
    """Return a word; what was written before it was set is seen after this."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args, arguments, _I32)
        return builder.load_atomic(pointer, "acquire", 4)

    return types.int32(words, index), generate


@intrinsic
def store(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """Set a word, after everything written before; another thread sees it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[:2], arguments[:2], _I32)
        builder.store_atomic(arguments[2], pointer, "release", 4)
        return context.get_dummy_value()

    return types.void(words, index, types.int32), generate


@intrinsic
def exchange(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """Set a word, after everything written before; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[:2], arguments[:2], _I32)
        return builder.atomic_rmw("xchg", pointer, arguments[2], "seq_cst")

    return types.int32(words, index, types.int32), generate


@intrinsic
def add(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """Add to a word, after everything written before; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[:2], arguments[:2], _I32)
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int32(words, index, types.int32), generate


@intrinsic
def replace(typingctx: Any, words: Any, index: Any, expected: Any, value: Any) -> Any:
    """Set a word if it is as expected; return whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[:2], arguments[:2], _I32)
        pair = builder.cmpxchg(pointer, arguments[2], arguments[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(words, index, types.int32, types.int32), generate


@intrinsic
def sleep_while(typingctx: Any, words: Any, index: Any, value: Any, nanoseconds: Any) -> Any:
    """Sleep until `wake`, a signal or so long, if a word of shared memory has this value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[:2], arguments[:2], _I32)
        timeout = cgutils.alloca_once(builder, ir.LiteralStructType([_I64, _I64]))
        billion = ir.Constant(_I64, 1_000_000_000)
        seconds = builder.sdiv(arguments[3], billion)
        rest = builder.srem(arguments[3], billion)
        builder.store(seconds, cgutils.gep_inbounds(builder, timeout, 0, 0))
        builder.store(rest, cgutils.gep_inbounds(builder, timeout, 0, 1))
        value = builder.zext(arguments[2], _I64)
        _futex(builder, pointer, _WAIT, value, builder.ptrtoint(timeout, _I64))
        return context.get_dummy_value()

    return types.void(words, index, types.int32, types.int64), generate


@intrinsic
def wake(typingctx: Any, words: Any, index: Any) -> Any:
    """Wake everybody who sleeps at a word, in any process."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args, arguments, _I32)
        _futex(builder, pointer, _WAKE, ir.Constant(_I64, _EVERYBODY), ir.Constant(_I64, 0))
        return context.get_dummy_value()

    return types.void(words, index), generate


@intrinsic
def pause(typingctx: Any) -> Any:
    """Wait for some tens of cycles, where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic(_PAUSE, [], kind), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def clock_ns(typingctx: Any) -> Any:
    """Return the nanoseconds of a clock that only goes forward."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        time = cgutils.alloca_once(builder, ir.LiteralStructType([_I64, _I64]))
        kind = ir.FunctionType(_I32, [_I32, time.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [ir.Constant(_I32, _MONOTONIC), time])
        seconds = builder.load(cgutils.gep_inbounds(builder, time, 0, 0))
        rest = builder.load(cgutils.gep_inbounds(builder, time, 0, 1))
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), rest)

    return types.int64(), generate
