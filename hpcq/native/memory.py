"""Memory for tables: huge pages, and fetching a line before it is needed."""

import ctypes
import mmap
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

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


def _prefetch(array: Any, index: Any, write: bool) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type = signature.args
        view = context.make_array(array_type)(context, builder, arguments[0])
        first = context.cast(builder, arguments[1], index_type, types.intp)
        rest = [context.get_constant(types.intp, 0)] * (array_type.ndim - 1)
        pointer = cgutils.get_item_pointer(
            context, builder, array_type, view, [first, *rest], wraparound=False
        )
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
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
