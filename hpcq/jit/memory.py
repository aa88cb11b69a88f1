"""Memory for tables: huge pages, and fetching a line before it is needed."""

import ctypes
import mmap
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from hpcq.jit.compiler import intrinsic

HUGE_PAGE = 2 << 20


def allocate(nbytes: int) -> NDArray[np.uint8]:
    """Return `nbytes` bytes of memory, not initialised, aligned to a cache line or a huge page.

    The kernel backs private anonymous mappings alone with huge pages, and only where asked.
    """
    if nbytes < HUGE_PAGE:
        small = np.empty(nbytes + 64, np.uint8)
        start = -small.ctypes.data % 64
        return small[start : start + nbytes]
    mapping = mmap.mmap(-1, nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE
    return memory[start : start + nbytes]


def release(array: NDArray) -> None:
    """Give the huge pages that lie within a contiguous array back; its contents are lost.

    The array must be, or be part of, one that `allocate` returned.
    """
    start = -(-array.ctypes.data // HUGE_PAGE) * HUGE_PAGE
    stop = (array.ctypes.data + array.nbytes) // HUGE_PAGE * HUGE_PAGE
    if stop > start and hasattr(mmap, "MADV_DONTNEED"):
        libc = ctypes.CDLL(None)
        libc.madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(stop - start), ctypes.c_int(mmap.MADV_DONTNEED)
        )


def pointer_to(context: Any, builder: Any, types_: Any, values: Any, target: ir.Type) -> Any:
    """Return a pointer to ``array[index, ...]`` as one to a type, of an (array, index, ...).

    Indices that are left out are 0.
    """
    array_type, *index_types = types_
    view = context.make_array(array_type)(context, builder, values[0])
    given = [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(values[1:], index_types, strict=True)
    ]
    rest = [context.get_constant(types.intp, 0)] * (array_type.ndim - len(given))
    pointer = cgutils.get_item_pointer(
        context, builder, array_type, view, [*given, *rest], wraparound=False
    )
    return builder.bitcast(pointer, target.as_pointer())


def _prefetch(array: Any, index: Any, write: bool) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args, arguments, ir.IntType(8))
        word = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer.type],
            ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word]),
        )
        # To stay in every cache level; data.
        builder.call(function, [pointer, word(int(write)), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line that holds the first number of ``array[index]``, to write there.

    The index is not checked; a prefetch of an address that does not exist does nothing.
    """
    return _prefetch(array, index, True)


@intrinsic
def prefetch_to_read(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for a line as `prefetch` does, and leave it to others, too."""
    return _prefetch(array, index, False)


@intrinsic
def stream_line(typingctx: Any, source: Any, at: Any, target: Any, to: Any) -> Any:
    """Copy 8 uint64 from ``source[at]`` on past the caches: nobody's line is taken back.

    They must be a cache line of the target. What was streamed is seen by others after a `fence`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, word = ir.VectorType(ir.IntType(64), 8), ir.IntType(32)
        types_, values = signature.args, arguments
        from_ = pointer_to(context, builder, types_[:2], values[:2], line)
        into = pointer_to(context, builder, types_[2:], values[2:], line)
        store = builder.store(builder.load(from_, align=8), into, align=64)
        store.set_metadata("nontemporal", builder.module.add_metadata([word(1)]))
        return context.get_dummy_value()

    return types.void(source, at, target, to), generate


@intrinsic
def fence(typingctx: Any) -> Any:
    """Let everything written before be seen before what is written after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
