"""Checkpoints in memory: written, copied to another node, and gone on from."""

from types import SimpleNamespace

import make_job
import pytest
from compiled_once import compile_once
from outcomes import StopAt, silent

from hpcq.checkpoint import node_memory, restore, saving
from hpcq.checkpoint.files import list_checkpoints
from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode
from hpcq.job.job import Job
from hpcq.learning import modes
from hpcq.mpi import on_root
from hpcq.run import snapshots
from hpcq.run.newest_checkpoint import newest
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


@pytest.mark.parametrize(("nodes", "apart"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("case", JOBS)
def test_a_run_goes_on_from_memory(case, nodes, apart, comm, folder, memory, monkeypatch):
    """With two nodes the last rank is on another one, and the first one is lost.

    Simulated nodes share memory and name: they are not apart, and nothing is lost.
    """
    job = job_in(folder, JOBS[case])
    other = nodes == 2 and comm.rank == comm.size - 1 > 0
    memory = [memory / str(node) for node in range(nodes)]
    if nodes == 2:
        monkeypatch.setattr(snapshots, "node_of", lambda comm: comm.Split(other, comm.rank))
    if nodes == 2 and apart:
        monkeypatch.setattr(node_memory, "ROOT", memory[other])
        node_memory.ROOT.mkdir(exist_ok=True)
        host = SimpleNamespace(gethostname=lambda: f"node{int(other)}")
        monkeypatch.setattr(node_memory, "socket", host)
    learner, said = begun(job, comm), []
    written = snapshots.Snapshots(learner, said.append)
    written.write()
    written.write()
    digest = learner.digest()
    comm.Barrier()
    number = node_memory.number_of(folder)
    there = comm.allgather(list_checkpoints(node_memory.folder_of(number)))
    expected = 2 if nodes == 2 and apart and comm.size > 1 else 1
    files = {path for paths in there for path in paths}
    assert len(files) == expected, said
    assert {verify(path)[1] for path in files} == {digest}
    assert list_checkpoints(folder) == []
    comm.Barrier()
    lost = len(files) == 2
    if comm.rank == 0 and lost:
        there[0][0].unlink()
    comm.Barrier()
    (path,) = snapshots.seen_by_all(comm, folder, said.append) or list_checkpoints(folder)
    assert (path.parent == folder) == lost
    assert ("was in the memory of a node" in "".join(said)) == lost
    again = modes.make_learner(job, resolve(job.environment), comm)
    restore.load_run(again, path)
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
    comm.Barrier()
    assert node_memory.number_of(folder) is None
    for one in (learner, again):
        one.close()


def test_what_is_damaged_or_older_is_not_gone_on_from(comm, folder, memory):
    job = job_in(folder, JOBS["compiled"])
    learner, said = begun(job, comm), []
    saving.save(learner, folder, "direct", 2)
    for _ in range(8):
        learner.advance()
    written = snapshots.Snapshots(learner, said.append)
    written.write()
    path = node_memory.newest(node_memory.number_of(folder))
    (on_disk,) = list_checkpoints(folder)
    assert newest(comm, job, False, [path]) == (path, [])
    learner.advance()
    saving.save(learner, folder, "direct", 2)
    newer, _ = list_checkpoints(folder)
    assert newest(comm, job, False, [path]) == (newer, [])
    comm.Barrier()
    if comm.rank == 0:
        newer.unlink()
        path.write_bytes(path.read_bytes()[:-1000])
    comm.Barrier()
    chosen, notes = newest(comm, job, False, [path])
    assert chosen == on_disk
    assert notes[0].startswith("skipped ")
    learner.close()


def test_what_another_node_has_damaged_or_older_is_not_copied(comm, folder, memory, monkeypatch):
    """The last rank is on a node of its own; where it is the only one, nothing is copied."""
    last = comm.rank == comm.size - 1
    monkeypatch.setattr(node_memory, "ROOT", memory / str(last))
    learner, said = begun(job_in(folder, JOBS["compiled"]), comm), []
    saved, _ = saving.save(learner, folder, "direct", 1)
    learner.close()
    number = on_root(comm, lambda: node_memory.give_number(folder))
    if last:
        node_memory.ROOT.mkdir()
        node_memory.make_folder(number, folder)
        path = node_memory.folder_of(number) / saved.name
        path.write_bytes(saved.read_bytes()[:-1000])
    seen = [node_memory.folder_of(number) / saved.name] if comm.size == 1 else []
    assert snapshots.seen_by_all(comm, folder, said.append) == seen
    assert said == []
    comm.Barrier()
    if comm.rank == 0:
        saved.unlink()
    comm.Barrier()
    assert snapshots.seen_by_all(comm, folder, said.append) == seen
    assert list_checkpoints(folder) == []
    assert [line.startswith("skipped ") for line in said] == [True] * (comm.size > 1)


def test_a_run_whose_last_tick_is_in_memory_is_saved(comm, folder, memory):
    """Also where it is made so short that nothing is left to do."""
    job = job_in(folder, make_job.make(make_job.GARNET, run={"steps": 10**9}))
    compile_once(job)
    assert to_end(train(job, comm, silent, StopAt(13))) == ExitCode.STOPPED
    saved = list_checkpoints(folder)[0]
    step = on_root(comm, lambda: read_header(saved).step)
    number = comm.bcast(node_memory.give_number(folder) if comm.rank == 0 else None)
    if comm.rank == 0:
        node_memory.make_folder(number, folder)
        saved.rename(node_memory.folder_of(number) / saved.name)
    comm.Barrier()
    assert to_end(resume_run(folder, (f"run.steps={step}",), comm, silent, [])) == ExitCode.DONE
    assert saved in list_checkpoints(folder)


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
