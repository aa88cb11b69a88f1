"""Arrays in memory that the ranks of a node share."""

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

_PAGE = 4096


def shared_arrays(
    comm: MPI.Intracomm, node: MPI.Intracomm, shapes: list[tuple[tuple[int, ...], np.dtype]]
) -> tuple[MPI.Win | None, list[NDArray]]:
    """Return an MPI window and the arrays in it, shared by the ranks of a node. Collective.

    The window is None, on all ranks, if a node cannot share memory.
    """
    # Each array starts at a page; MPI's memory itself need not.
    sizes = [-(-int(np.prod(shape)) * dtype.itemsize // _PAGE) * _PAGE for shape, dtype in shapes]
    window, memory = None, np.empty(0, np.uint8)
    try:
        window = MPI.Win.Allocate_shared(_PAGE + sum(sizes) if node.rank == 0 else 0, 1, comm=node)
        window.Lock_all(MPI.MODE_NOCHECK)
        buffer: Any = window.Shared_query(0)[0]
        memory = np.frombuffer(buffer, np.uint8)
    except MPI.Exception:
        pass
    at = node.bcast(-memory.ctypes.data % _PAGE)
    # Memory is mapped by pages: what is aligned here is aligned on all ranks. Kernels rely on it.
    aligned = (memory.ctypes.data + at) % _PAGE == 0
    if not comm.allreduce(window is not None and aligned, MPI.LAND):
        if window is not None:
            window.Unlock_all()
            window.Free()
        return None, []
    arrays = []
    for (shape, dtype), size in zip(shapes, sizes, strict=True):
        count = int(np.prod(shape))
        arrays.append(memory[at : at + count * dtype.itemsize].view(dtype).reshape(shape))
        at += size
    return window, arrays
