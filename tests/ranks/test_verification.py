"""Ranks that check a part of a checkpoint each find what one process finds."""

import make_job
import numpy as np
import pytest
from compiled_once import compile_once

from hpcq.checkpoint import saving
from hpcq.checkpoint.sandbox import describe
from hpcq.checkpoint.verification import verify, verify_together
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError
from hpcq.learning import modes
from hpcq.mpi import on_root

pytestmark = pytest.mark.mpi


def said(function):
    """Return what an error says; empty if there is none."""
    try:
        function()
    except CheckpointError as error:
        return str(error)
    return ""


def test_wrong_bytes_anywhere(comm, folder):
    job = make_job.make(make_job.GARNET, run={"directory": str(folder)})
    compile_once(job)
    learner = modes.make_learner(job, resolve(job.environment), comm)
    learner.begin()
    for _ in range(40):
        learner.advance()
    path, digest = saving.save(learner, folder, "direct", 1)
    learner.close()
    found = on_root(comm, lambda: describe(path))
    header, together = verify_together(comm, path, found)
    assert together == digest
    assert header.rows == digest.rows
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for name, (offset, rows) in found["places"].items():
        if not name.startswith(("table/", "environments/", "integrity/digest")) or rows == 0:
            continue
        for row in {0, rows - 1, int(rng.integers(rows))}:
            comm.Barrier()
            if comm.rank == 0:
                wrong = bytearray(whole)
                wrong[offset + row] ^= 1
                path.write_bytes(wrong)
            comm.Barrier()
            alone = on_root(comm, lambda: said(lambda: verify(path, found)))
            assert alone, (name, row)
            errors = comm.allgather(said(lambda: verify_together(comm, path, found)))
            assert len(set(errors)) == 1, errors
            assert errors[0], (name, row)
