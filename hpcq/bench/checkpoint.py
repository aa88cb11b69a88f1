"""Time checkpoints beside a plain sequential write of the same bytes, in the same run.

Every rank fills its shard with random rows.
"""

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcq.checkpoint.files import checkpoint_name
from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.checkpoint.restore import load_run
from hpcq.checkpoint.saving import save
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.hashing import first_hash, mix64
from hpcq.job.job import Job
from hpcq.learning.lockstep import LockstepLearner
from hpcq.mpi import on_root

ACTIONS = 6
ROW_BYTES = 8 + 8 * ACTIONS
PIECE_ROWS = 1 << 20
PLAIN_BYTES = 64 << 20


def bench(comm: MPI.Intracomm, directory: Path, size: float) -> dict[str, Any]:
    """Write and read a table of `size` bytes with every writer. Collective."""
    states = int(size) // ROW_BYTES
    learner = _learner(comm, states)
    learner.begin()
    _fill(learner, states)
    with TemporaryDirectory(dir=directory if comm.rank == 0 else None) as own:
        folder = Path(comm.bcast(own))
        found: dict[str, Any] = {
            "ranks": comm.size,
            "bytes": states * ROW_BYTES,
            "writers": {},
        }
        for writer in ("direct", *(["mpio"] if HAS_MPI else []), "gather"):
            found["writers"][writer] = _measure(learner, states, folder, writer)
        comm.Barrier()
    learner.close()
    return found


def _learner(comm: MPI.Intracomm, states: int) -> LockstepLearner:
    environment = {
        "id": "hpcq/Garnet-v0",
        "kwargs": {"states": 2, "actions": ACTIONS, "branching": 2},
        "count": 64,
    }
    sections = {"learning": {"gamma": 0.9, "learning_rate": 0.1}, "run": {"steps": 1}}
    job = Job.check({"name": "bench", "environment": environment, **sections}, "bench")
    observation = {"kind": "Discrete", "n": states, "start": 0}
    return LockstepLearner(job, replace(resolve(job.environment), observation=observation), comm)


def _fill(learner: LockstepLearner, states: int) -> None:
    """Fill the shard with its part of so many states, with random Q-values."""
    rank, ranks = learner.comm.rank, learner.comm.size
    hashes = mix64.py_func(np.arange(states, dtype=np.uint64))
    hashes = hashes[hashes >= np.uint64(first_hash(rank, ranks))]
    if rank + 1 < ranks:
        hashes = hashes[hashes < np.uint64(first_hash(rank + 1, ranks))]
    hashes.sort()
    learner.shard.reserve(hashes.size)
    rng = np.random.default_rng(rank)
    for start in range(0, hashes.size, PIECE_ROWS):
        piece = hashes[start : start + PIECE_ROWS]
        q = rng.random((piece.size, ACTIONS))
        learner.shard.load(piece, q, np.zeros((piece.size, 0), np.uint32))


def _write_plain(folder: Path, rows: int) -> float:
    """Write the same bytes sequentially with one process, and flush them; return seconds.

    The space is reserved first, as for checkpoints: some file systems are far slower otherwise.
    """
    piece = np.random.default_rng(0).bytes(PLAIN_BYTES)
    left = rows * ROW_BYTES
    start = time.perf_counter()
    with open(folder / "plain", "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, left)
        while left > 0:
            left -= file.write(piece[: min(left, PLAIN_BYTES)])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (folder / "plain").unlink()
    return seconds


def _measure(learner: LockstepLearner, states: int, folder: Path, writer: str) -> dict[str, Any]:
    """Save, verify and load once with one writer. Collective."""
    comm = learner.comm
    # A plain write beside every writer: the speed of disks drifts. The better of two of each: in
    # a virtual machine the first one waits for memory from the host.
    plain, pause, phases = math.inf, math.inf, {}
    for _ in range(2):
        plain = min(plain, on_root(comm, lambda: _write_plain(folder, states)))
        # Replacing a large file takes time of its own.
        on_root(comm, lambda: (folder / checkpoint_name(learner.steps)).unlink(missing_ok=True))
        taken: dict[str, float] = {}
        start = time.perf_counter()
        path, digest = save(learner, folder, writer, keep=1, seconds=taken)
        comm.Barrier()
        if (took := time.perf_counter() - start) < pause:
            pause, phases = took, taken
    start = time.perf_counter()
    assert on_root(comm, lambda: verify(path))[1] == digest
    verified = time.perf_counter() - start
    other = _learner(comm, states)
    start = time.perf_counter()
    load_run(other, path)
    comm.Barrier()
    loaded = time.perf_counter() - start
    assert other.digest() == digest
    other.close()
    return {
        "plain_seconds": plain,
        "pause_seconds": pause,
        "write_seconds": pause - phases["read back"],
        "phases_seconds": phases,
        "verify_seconds": verified,
        "load_seconds": loaded,
    }
