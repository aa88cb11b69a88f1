"""Arrays in memory that the ranks of a node share: a file without a name, mapped by all of them.

Nothing is left of it when they end, however they end, and it counts as memory of the job: the space
of /dev/shm, 64 MB in many containers, does not limit it.
"""

import mmap
import os

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

_PAGE = 4096

Shapes = list[tuple[tuple[int, ...], np.dtype]]


def shared_arrays(comm: MPI.Intracomm, node: MPI.Intracomm, shapes: Shapes) -> list[NDArray] | None:
    """Return arrays of zeros that the ranks of a node share. Collective.

    None, on all ranks, if a node cannot share memory.
    """
    # Each array starts at a page.
    sizes = [-(-int(np.prod(shape)) * dtype.itemsize // _PAGE) * _PAGE for shape, dtype in shapes]
    memory = _map(node, max(sum(sizes), _PAGE))
    if not comm.allreduce(memory is not None, MPI.LAND) or memory is None:
        return None
    arrays, at = [], 0
    for (shape, dtype), size in zip(shapes, sizes, strict=True):
        count = int(np.prod(shape))
        arrays.append(memory[at : at + count * dtype.itemsize].view(dtype).reshape(shape))
        at += size
    return arrays


def _map(node: MPI.Intracomm, nbytes: int) -> NDArray[np.uint8] | None:
    """Map one new file on all ranks of the node; None where that fails. Collective in the node."""
    descriptor, mapping = -1, None
    if node.rank == 0:
        try:
            descriptor = os.memfd_create("hpcq")
            os.ftruncate(descriptor, nbytes)
        except (OSError, AttributeError):
            nbytes = 0
    made, process, number = node.bcast((nbytes, os.getpid(), descriptor))
    if made:
        try:
            if node.rank > 0:
                descriptor = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
            # Another process of this number, in another container, has no such file.
            if os.fstat(descriptor).st_size == made:
                mapping = mmap.mmap(descriptor, made)
        except OSError:
            pass
    node.Barrier()
    if descriptor >= 0:
        os.close(descriptor)
    return None if mapping is None else np.frombuffer(mapping, np.uint8)
