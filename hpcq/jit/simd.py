"""Bitsets in a uint64: which numbers of a row are large, how many bits there are, and the n-th."""

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import config as numba_config
from numba.core import types

from hpcq.jit.compiler import inlined, intrinsic, literal_intrinsic
from hpcq.jit.memory import pointer_to

WIDTH = 64
_I64 = ir.IntType(64)


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """Call an LLVM intrinsic from uint64 to uint64."""
    type_ = ir.FunctionType(_I64, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, type_, name)
    return builder.call(function, arguments)


def _in_all(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector of a number over and over."""
    vector, word = ir.VectorType(value.type, lanes), ir.IntType(32)
    nothing = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(word, lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(nothing, value, word(0)), nothing, zeros)


@intrinsic
def equal(typingctx: Any, array: Any, start: Any, value: Any) -> Any:
    """Return the bitset of which of the `WIDTH` uint32 of an array from `start` on are `value`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), WIDTH)
        place = pointer_to(context, builder, signature.args[:2], arguments[:2], vector)
        values = builder.load(place, align=4)
        found = builder.icmp_unsigned("==", values, _in_all(builder, arguments[2], WIDTH))
        return builder.bitcast(found, _I64)

    if array.dtype != types.uint32:
        return None
    return types.uint64(array, start, types.uint32), generate


@literal_intrinsic
def at_least(typingctx: Any, rows: Any, row: Any, start: Any, least: Any, count: Any) -> Any:
    """Return the bitset of which of the `count` numbers ``rows[row, start:]`` are `least` or more.

    `count` is a constant of at most `WIDTH`; one comparison of vectors.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None
    n = count.literal_value
    lanes = 1 << (n - 1).bit_length()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = context.get_value_type(rows.dtype)
        vector, bits = ir.VectorType(real, lanes), ir.IntType(1)
        size, word = context.get_abi_sizeof(real), ir.IntType(32)
        place = pointer_to(context, builder, signature.args[:3], arguments[:3], vector)
        if n == lanes:
            values = builder.load(place, align=size)
        else:
            wanted = ir.Constant(ir.VectorType(bits, lanes), [i < n for i in range(lanes)])
            kind = "f32" if size == 4 else "f64"
            type_ = ir.FunctionType(vector, [place.type, word, wanted.type, vector])
            name = f"llvm.masked.load.v{lanes}{kind}.p0"
            load = builder.module.globals.get(name) or ir.Function(builder.module, type_, name)
            nothing = ir.Constant(vector, ir.Undefined)
            values = builder.call(load, [place, word(size), wanted, nothing])
        same = context.cast(builder, arguments[3], signature.args[3], rows.dtype)
        found = builder.fcmp_ordered(">=", values, _in_all(builder, same, lanes))
        bitset = builder.bitcast(found, ir.IntType(lanes))
        if lanes < WIDTH:
            bitset = builder.zext(bitset, _I64)
        return builder.and_(bitset, _I64((1 << n) - 1))

    return types.uint64(rows, row, start, least, count), generate


@intrinsic
def size_of(typingctx: Any, bitset: Any) -> Any:
    """Return how many bits are set, uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.ctpop.i64", *arguments)

    return types.uint64(types.uint64), generate


@intrinsic
def lowest(typingctx: Any, bitset: Any) -> Any:
    """Return the number of the lowest bit that is set; 64 if there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def _deposit(typingctx: Any, bits: Any, bitset: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.x86.bmi.pdep.64", *arguments)

    return types.uint64(types.uint64, types.uint64), generate


@inlined
def _nth_by_deposit(bitset: np.uint64, n: int) -> Any:
    return lowest(_deposit(np.uint64(1) << np.uint64(n), bitset))


@inlined
def _nth_by_steps(bitset: np.uint64, n: int) -> Any:
    for _ in range(n):
        bitset &= bitset - np.uint64(1)
    return lowest(bitset)


def _deposits() -> bool:
    """Return whether what numba compiles for has the instruction: known of this processor only."""
    config: Any = numba_config
    if config.CPU_NAME or config.CPU_FEATURES:
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("bmi2"))


nth = _nth_by_deposit if _deposits() else _nth_by_steps
"""nth(bitset, n): the number of the n-th bit that is set, counted from 0 and from the lowest."""
