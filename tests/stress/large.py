#!/usr/bin/env python
"""Save, verify and read a table of more than 2^31 elements and 4 GiB, with every writer.

    mpirun -n 2 python tests/stress/large.py --directory /scratch

Needs 9 GB of disk and little memory: the rows are made as they are asked for.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcq.checkpoint import saving
from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.checkpoint.reader import find_row, opened, table_pieces
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.hashing import first_hash, unmix64
from hpcq.job.job import Job
from hpcq.learning.lockstep import LockstepLearner
from hpcq.mpi import agree, on_root

ROWS, ACTIONS = 8_400_000, 256
STATES = (1 << 63) - 1


class Shard:
    """As much of `hpcq.table.shard.Shard` as saving needs; a row follows from its hash."""

    actions, dtype, keeps_visits = ACTIONS, np.dtype("f4"), False

    def __init__(self, rank, ranks):
        first, step = first_hash(rank, ranks), (1 << 63) // ROWS
        hashes = np.uint64(first) + np.arange(2 * ROWS // ranks, dtype=np.uint64) * np.uint64(step)
        self.hashes = hashes[unmix64.py_func(hashes) < np.uint64(STATES)]

    def __len__(self):
        return self.hashes.size

    def pieces(self, rows):
        for at in range(0, len(self), rows):
            hashes = self.hashes[at : at + rows]
            yield hashes, q_of(hashes), np.empty((hashes.size, 0), np.uint32)


def q_of(hashes):
    """Return the row of each hash."""
    column = (hashes >> np.uint64(40)).astype(np.float32)
    return np.ascontiguousarray(column[:, None] + np.arange(ACTIONS, dtype=np.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path())
    directory = parser.parse_args().directory
    comm = MPI.COMM_WORLD
    kwargs = {"states": 2, "actions": ACTIONS, "branching": 1}
    data = {
        "name": "large",
        "environment": {"id": "hpcq/Garnet-v0", "kwargs": kwargs, "count": 4},
        "learning": {"gamma": 0.9, "learning_rate": 0.5, "dtype": "float32"},
        "run": {"steps": 1},
    }
    job = Job.check(data, "large")
    observation = {"kind": "Discrete", "n": STATES, "start": 0}
    learner = LockstepLearner(
        job, dataclasses.replace(resolve(job.environment), observation=observation), comm
    )
    learner.begin()
    learner.shard = Shard(comm.rank, comm.size)
    for writer in ("direct", "gather", *(["mpio"] if HAS_MPI else [])):
        with tempfile.TemporaryDirectory(dir=directory if comm.rank == 0 else None) as own:
            start = time.perf_counter()
            path, digest = saving.save(learner, Path(comm.bcast(own)), writer, keep=1)
            saved = time.perf_counter() - start
            header, found = on_root(comm, lambda path=path: verify(path))
            assert found == digest
            agree(comm, lambda path=path: check_slice(comm, path))
            elements, size = header.rows * ACTIONS, path.stat().st_size
            assert elements > 2**31
            if comm.rank == 0:
                print(f"{writer}: {elements:,} elements, {size:,} bytes, {saved:.1f} s", flush=True)
            comm.Barrier()


def check_slice(comm, path):
    """Read this rank's slice as a restart on one rank more would, and compare every element."""
    rank, ranks = comm.rank + 1, comm.size + 1
    with opened(path) as (file, header):
        start = find_row(file, header, first_hash(rank, ranks))
        stop = find_row(file, header, first_hash(rank + 1, ranks))
        assert stop - start > header.rows / ranks * 0.9
        for hashes, q, _ in table_pieces(file, header, start, stop):
            assert np.array_equal(q, q_of(hashes))


if __name__ == "__main__":
    main()
