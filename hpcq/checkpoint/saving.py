"""Save a run to one HDF5 file, whole or not at all.

Rank 0 lays the whole file out under a temporary name and reserves its space before the first row
is written; the ranks write their rows and flush them; each rank reads what its neighbour wrote
back from the disk and compares; rank 0 adds checksums, digest and, last, `complete`, and publishes
the file by renaming it. The ranks agree after each phase, so that a failure anywhere removes the
temporary and is an error on all.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mpi4py import MPI

from hpcq.checkpoint.files import checkpoint_name, prune
from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.checkpoint.snapshot import Saved, Snapshot
from hpcq.checkpoint.staging import Extent, StagingFile
from hpcq.checkpoint.writers import WRITERS
from hpcq.errors import DependencyError
from hpcq.learning.learner import total_digest
from hpcq.mpi import agree, on_root
from hpcq.table.digest import Digest

T = TypeVar("T")


def choose_writer(asked: str) -> str:
    """Return the writer for a job's `checkpoint.writer`.

    Raises
    ------
    DependencyError
        if `mpio` is asked for and h5py was built without MPI.
    """
    if asked == "mpio" and not HAS_MPI:
        raise DependencyError(
            "checkpoint.writer = 'mpio', but this h5py was built without MPI; build h5py "
            "against a parallel HDF5 (HDF5_MPI=ON pip install --no-binary=h5py h5py), "
            "or set checkpoint.writer = 'direct' or 'gather'"
        )
    return "direct" if asked == "auto" else asked


def save(
    learner: Saved,
    directory: Path,
    writer: str,
    keep: int,
    milestones: frozenset[int] = frozenset(),
    seconds: dict[str, float] | None = None,
    local: bool = False,
) -> tuple[Path, Digest]:
    """Save the run as it stands after a tick; return the file and the table's digest. Collective.

    Parameters
    ----------
    writer
        `direct`, `mpio` or `gather`, from `choose_writer`.
    keep
        newest checkpoints that stay in the directory.
    milestones
        steps whose checkpoints stay beside these.
    seconds
        filled with the seconds of each phase on this rank.
    local
        the directory is one that only the node of rank 0 sees; the writer must be `gather`.

    Raises
    ------
    StorageError
        on every rank, if any rank failed; older checkpoints stay, the temporary does not.
    """
    comm = learner.comm
    path = directory / checkpoint_name(learner.steps)
    contents = Snapshot(learner)
    file = StagingFile(path.with_suffix(".h5.partial"), contents.header, contents.slabs)

    @contextlib.contextmanager
    def timed(phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if seconds is not None:
            seconds[phase] = time.perf_counter() - start

    try:
        with timed("lay out"):
            file.offsets = on_root(comm, _or_storage_error(file, file.create))
        with timed("write"):
            extents = WRITERS[writer](comm, file, contents.pieces())
        with timed("flush"):
            written = not local or comm.rank == 0
            agree(comm, _or_storage_error(file, file.flush if written else lambda: None))
        with timed("read back"):
            _read_back(comm, file, extents, local)
        with timed("publish"):
            digest = total_digest(comm, contents.digest)
            everything = _gathered(comm, extents)
            on_root(comm, _or_storage_error(file, lambda: file.finish(digest, everything)))
            on_root(comm, _or_storage_error(file, lambda: file.publish(path)))
    except BaseException:
        if comm.rank == 0:
            with contextlib.suppress(OSError):
                file.path.unlink()
        raise
    on_root(comm, _or_storage_error(file, lambda: prune(directory, keep, path, milestones)))
    return path, digest


def _or_storage_error(file: StagingFile, function: Callable[[], T]) -> Callable[[], T]:
    def guarded() -> T:
        with file.failures():
            return function()

    return guarded


def _read_back(comm: MPI.Intracomm, file: StagingFile, extents: list[Extent], local: bool) -> None:
    """Compare what is on the disk with what the neighbour rank wrote. Collective.

    A neighbour on another node reads the disk, not the page cache of the writer.
    """
    if local:
        others = _gathered(comm, extents)
    else:
        before, after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        others = comm.sendrecv(extents, dest=before, source=after)
    agree(comm, _or_storage_error(file, lambda: file.compare(others) if others else None))


def _gathered(comm: MPI.Intracomm, extents: list[Extent]) -> list[Extent]:
    """Return those of all ranks on rank 0, none on the others. Collective."""
    return [one for part in comm.gather(extents) or [] for one in part]
