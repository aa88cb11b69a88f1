"""Training from Python with any communicator."""

import make_job
import pytest
from mpi4py import MPI

import hpcq
from hpcq.errors import RunDirectoryError
from hpcq.view.inspect import inspect

pytestmark = pytest.mark.mpi


def job(folder, **changes):
    run = {"steps": 6_000, "directory": str(folder), "report_every": 0.05, **changes}
    return make_job.make(make_job.GARNET, run=run)


def test_all_ranks_see_the_same_reports(comm, folder):
    reports = list(hpcq.iter_train(job(folder)))
    assert reports[-1]["step"] == 6_000
    assert all(other == reports for other in comm.allgather(reports))
    path = hpcq.train(job(folder, steps=12_000), comm, resume=True)
    assert path.name == "ckpt-000000000012000.h5"
    with pytest.raises(RunDirectoryError, match="holds a run already") as error:
        hpcq.train(job(folder), comm)
    assert error.value.collective


def test_parts_of_the_world_train_by_themselves_and_agree(comm, folder):
    """Each part its own run; the answer is the same on any number of ranks."""
    part = comm.Split(comm.rank % 2, comm.rank)
    mine = folder / str(comm.rank % 2)
    digest = inspect(hpcq.train(job(mine), part))["digest"]
    alone = inspect(hpcq.train(job(folder / f"alone-{comm.rank}"), MPI.COMM_SELF))["digest"]
    assert set(comm.allgather(digest) + comm.allgather(alone)) == {digest}
    part.Free()


def test_who_leaves_the_loop_keeps_what_was_saved(comm, folder):
    changed = job(folder, steps=10_000_000).model_copy(
        update={"checkpoint": hpcq.Job.model_fields["checkpoint"].default.model_copy(
            update={"every": 100}
        )}
    )  # fmt: skip
    for report in hpcq.iter_train(changed):
        if report["checkpoint_step"]:
            break
    comm.Barrier()
    reports = hpcq.iter_train(job(folder, steps=10_000_000), resume=True)
    assert next(reports)["step"] > report["checkpoint_step"]
    reports.close()
    comm.Barrier()
