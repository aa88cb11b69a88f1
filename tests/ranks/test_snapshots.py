"""Checkpoints in memory: written, copied to another node, and gone on from."""

from types import SimpleNamespace

import make_job
import pytest
from compiled_once import compile_once
from outcomes import StopAt, silent

from hpcq.checkpoint import node_memory, restore
from hpcq.checkpoint.files import list_checkpoints
from hpcq.checkpoint.reader import verify
from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.run import snapshots
from hpcq.run.start_or_resume import resume_run, to_end, train

pytestmark = pytest.mark.mpi

JOBS = {
    "compiled": make_job.make(make_job.GARNET),
    "python": make_job.make(make_job.CORRIDOR),
    "periodic": make_job.make(make_job.GARNET, mode={"kind": "periodic", "merge_every": 8}),
    "asynchronous": make_job.make(make_job.GARNET, mode={"kind": "asynchronous"}),
}


@pytest.fixture
def memory(monkeypatch, folder):
    """A folder in place of the nodes' memory, which they share."""
    monkeypatch.setattr(node_memory, "ROOT", folder / "memory")
    node_memory.ROOT.mkdir(exist_ok=True)
    return node_memory.ROOT


def job_in(directory, job):
    data = job.model_dump(mode="json")
    data["run"]["directory"] = str(directory)
    data["checkpoint"]["memory_seconds"] = 1.0
    return Job.check(data, "test")


def begun(job, comm):
    compile_once(job)
    learner = modes.make_learner(job, resolve(job.environment), comm)
    learner.begin()
    for _ in range(80):
        learner.advance()
    return learner


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("case", JOBS)
def test_a_run_goes_on_from_memory(case, nodes, comm, folder, memory, monkeypatch):
    """With two nodes the last rank is on another one, and the first one is lost."""
    job = job_in(folder, JOBS[case])
    other = nodes == 2 and comm.rank == comm.size - 1 > 0
    if nodes == 2:
        monkeypatch.setattr(snapshots, "node_of", lambda comm: comm.Split(other, comm.rank))
        host = SimpleNamespace(gethostname=lambda: f"node{int(other)}")
        monkeypatch.setattr(node_memory, "socket", host)
    learner, said = begun(job, comm), []
    written = snapshots.Snapshots(learner, said.append)
    written.write()
    written.write()
    digest = learner.digest()
    comm.Barrier()
    number = node_memory.number_of(folder)
    there = node_memory.folders(number)
    assert len(there) == (2 if nodes == 2 and comm.size > 1 else 1), said
    assert {verify(path)[1] for one in there for path in list_checkpoints(one)} == {digest}, said
    assert list_checkpoints(folder) == []
    comm.Barrier()
    if comm.rank == 0 and len(there) == 2:
        for path in list_checkpoints(node_memory.folder_of(number)):
            path.unlink()
    comm.Barrier()
    snapshots.fetch(comm, folder, said.append)
    assert "was in the memory of a node" in said[-1]
    again = modes.make_learner(job, resolve(job.environment), comm)
    restore.load_run(again, list_checkpoints(folder)[0])
    assert again.digest() == digest
    for one in (learner, again):
        for _ in range(40):
            one.advance()
    if case != "asynchronous":
        assert again.digest() == learner.digest()
    comm.Barrier()
    snapshots.forget(comm, folder)
    comm.Barrier()
    assert node_memory.folders() == []
    assert node_memory.number_of(folder) is None
    for one in (learner, again):
        one.close()


def test_what_is_damaged_or_older_stays_in_memory(comm, folder, memory):
    job = job_in(folder, JOBS["compiled"])
    learner, said = begun(job, comm), []
    written = snapshots.Snapshots(learner, said.append)
    written.write()
    path = node_memory.newest(node_memory.number_of(folder))
    comm.Barrier()
    if comm.rank == 0:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    comm.Barrier()
    snapshots.fetch(comm, folder, said.append)
    assert said[-1].startswith("skipped ")
    assert list_checkpoints(folder) == []
    comm.Barrier()
    if comm.rank == 0:
        path.write_bytes(whole)
        (folder / "ckpt-000000099999999.h5").write_bytes(b"newer")
    comm.Barrier()
    snapshots.fetch(comm, folder, said.append)
    assert len(said) == 1
    assert len(list_checkpoints(folder)) == 1
    learner.close()


def test_a_run_that_learns_in_another_way_forgets_what_absent_nodes_have(comm, folder, memory):
    job = job_in(folder / "run", JOBS["compiled"])
    compile_once(job)
    assert to_end(train(job, comm, silent, StopAt(13))) in ExitCode
    # As if the run had died.
    number = comm.bcast(node_memory.give_number(folder / "run") if comm.rank == 0 else None)
    changes = ("learning.learning_rate=0.2", f"run.steps={2 * job.run.steps}")
    training = resume_run(folder / "run", changes, comm, silent, [], override=True)
    next(training)
    assert node_memory.number_of(folder / "run") not in (None, number)
    assert to_end(training) == ExitCode.DONE


def test_without_room_a_run_goes_on_without(comm, folder, memory, monkeypatch):
    learner, said = begun(job_in(folder, JOBS["compiled"]), comm), []
    written = snapshots.Snapshots(learner, said.append)
    monkeypatch.setattr("hpcq.checkpoint.staging._free_bytes", lambda path: 100)
    written.write()
    assert "no checkpoints in memory from here on" in said[-1]
    assert "100 are free" in said[-1]
    assert not written.time_is_up()
    learner.advance()
    learner.close()
