"""A run of environments that cannot be saved stops, and ends, where it is asked to, in every mode.

A stop cuts the episodes; the file says so. Runs that are cut alike end in the same table on any
number of ranks.
"""

import make_job
import pytest
from mpi4py import MPI
from outcomes import StopAt, outcome, silent, verified

from hpcq.errors import ExitCode
from hpcq.run.run_directory import list_checkpoints
from hpcq.run.start_or_resume import resume_run, to_end, train

pytestmark = pytest.mark.mpi

FAR = 10**9
MODES = {
    "lockstep": {},
    "periodic": {"merge_every": FAR},
    "asynchronous": {"parts": 2, "max_staleness": 2},
}
ENVIRONMENTS = {
    "python": {**make_job.CORRIDOR, "count": 6},
    "vector": make_job.VECTOR,
    "floats": {"id": "hpcq/Pendulum-v0", "count": 6, "max_episode_steps": 30},
}
# Environments that step together are cut by code of their own: in the tests of stops, always.
MOST = ["python", "floats", pytest.param("vector", marks=pytest.mark.soak)]
SEVERAL = {"n_step": 3, "learning_rate": 0.3}


def job_of(environment, directory, kind="lockstep", steps=100, reset_every=FAR, **sections):
    section = {**ENVIRONMENTS[environment], "reset_every": reset_every}
    run = {
        "steps": steps * section["count"],
        "directory": str(directory),
        **sections.pop("run", {}),
    }
    mode = {"kind": kind, **MODES[kind]}
    return make_job.make(section, mode=mode, run=run, **sections)


def last_of(directory):
    """Return the header of a run's newest checkpoint, which must be whole."""
    return verified(list_checkpoints(directory)[0], MPI.COMM_WORLD)[0]


@pytest.mark.parametrize("environment", MOST)
@pytest.mark.parametrize("kind", MODES)
def test_a_run_is_as_long_as_was_asked(kind, environment, comm, folder):
    """And so is one of a tick, and one that is made longer."""
    count = ENVIRONMENTS[environment]["count"]
    # Asynchronous mode sums up steps, no multiple of a tick, and then comes to a common one.
    more = 2 * count if kind == "asynchronous" else 0
    for steps in (1, 37):
        job = job_of(environment, folder / str(steps), kind, steps)
        assert to_end(train(job, comm, silent, [])) == ExitCode.DONE
        done = last_of(folder / str(steps)).step
        assert steps * count <= done <= steps * count + more
    longer = (f"run.steps={50 * count - 1}",)
    assert to_end(resume_run(folder / "37", longer, comm, silent, [])) == ExitCode.DONE
    header = last_of(folder / "37")
    assert 50 * count <= header.step <= 50 * count + more
    if kind != "asynchronous":
        assert header.progress["cuts"] == [37, 50]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("kind", MODES)
def test_a_stop_saves_within_a_tick(kind, environment, comm, folder):
    """The signal comes to one rank alone, in its thirteenth tick."""
    directory, count = folder / "run", ENVIRONMENTS[environment]["count"]
    signals = StopAt(13) if comm.rank == comm.size - 1 else []
    job = job_of(environment, directory, kind, FAR)
    compiled_here = environment == "floats"
    if kind == "periodic" and compiled_here:
        # Ticks of a microsecond: only merges hear of it.
        job = job.model_copy(update={"mode": type(job.mode)(kind=kind, merge_every=10)})
    assert to_end(train(job, comm, silent, signals)) == ExitCode.STOPPED
    header = last_of(directory)
    if kind == "lockstep" and not compiled_here:
        # Agreed on in its tick, saved in the next.
        assert (header.tick, header.progress["cuts"]) == (14, [14])
    elif kind == "periodic" and not compiled_here:
        # The faster ranks' tick: they have not waited for anybody before.
        assert header.progress["cuts"] == [header.tick]
    longer = (f"run.steps={header.step + 5 * count}",)
    assert to_end(resume_run(directory, longer, comm, silent, [])) == ExitCode.DONE
    most = 7 if kind == "asynchronous" else 5
    assert header.step + 5 * count <= last_of(directory).step <= header.step + most * count


@pytest.mark.parametrize("environment", MOST)
@pytest.mark.parametrize("kind", MODES)
def test_a_stop_before_the_first_tick_is_saved(kind, environment, comm, folder):
    directory, count = folder / "run", ENVIRONMENTS[environment]["count"]
    job = job_of(environment, directory, kind, FAR)
    if kind == "periodic":
        job = job.model_copy(update={"mode": type(job.mode)(kind=kind, merge_every=10)})
    assert to_end(train(job, comm, silent, StopAt(0))) == ExitCode.STOPPED
    first = last_of(directory)
    # And once more, before anything new is learned.
    assert to_end(resume_run(directory, (), comm, silent, StopAt(0))) == ExitCode.STOPPED
    longer = (f"run.steps={last_of(directory).step + 5 * count}",)
    assert to_end(resume_run(directory, longer, comm, silent, [])) == ExitCode.DONE
    assert last_of(directory).step >= first.step + 5 * count


@pytest.mark.parametrize("kind", MODES)
def test_a_criterion_that_holds_from_the_start_ends_a_run(kind, comm, folder):
    job = make_job.make(
        {"id": "FrozenLake-v1", "count": 6},
        learning={"gamma": 0.9},
        mode={"kind": kind, **MODES[kind], "merge_every": 10},
        stop={"bellman_residual": 10.0, "every": 12},
        run={"steps": FAR, "directory": str(folder / "run")},
    )
    assert to_end(train(job, comm, silent, [])) == ExitCode.DONE
    assert "stop.bellman_residual" in outcome(folder / "run")[0]["ended_by"]


@pytest.mark.parametrize("environment", MOST)
@pytest.mark.parametrize("learning", [{}, SEVERAL], ids=["one step", "several"])
def test_the_same_cuts_give_the_same_table_on_any_number_of_ranks(
    learning, environment, comm, folder
):
    count, ends = ENVIRONMENTS[environment]["count"], (37, 51, 90)

    def cut(directory, ranks):
        job = job_of(environment, directory, steps=ends[0], reset_every=40, learning=learning)
        assert to_end(train(job, ranks, silent, [])) == ExitCode.DONE
        for end in ends[1:]:
            longer = (f"run.steps={end * count}",)
            assert to_end(resume_run(directory, longer, ranks, silent, [])) == ExitCode.DONE
        return outcome(directory)[0]["digest"]

    if comm.rank == 0:
        alone = cut(folder / "alone", MPI.COMM_SELF)
        uncut = job_of(environment, folder / "uncut", steps=90, reset_every=40, learning=learning)
        assert to_end(train(uncut, MPI.COMM_SELF, silent, [])) == ExitCode.DONE
        assert outcome(folder / "uncut")[0]["digest"] != alone
    comm.Barrier()
    assert cut(folder / "all", comm) == outcome(folder / "alone")[0]["digest"]
    assert last_of(folder / "all").progress["cuts"] == list(ends)


@pytest.mark.parametrize("kind", ["lockstep", "periodic"])
def test_a_run_that_is_not_cut_ends_as_the_uninterrupted_one(kind, comm, folder):
    def job(directory):
        run = {"cut_episodes": False}
        made = job_of("python", directory, kind, 70, reset_every=20, run=run)
        mode = type(made.mode)(kind=kind, merge_every=16)
        return made.model_copy(update={"mode": mode})

    assert to_end(train(job(folder / "one"), comm, silent, [])) == ExitCode.DONE
    last = {"lockstep": 80, "periodic": 80}[kind]
    assert last_of(folder / "one").tick == last
    assert to_end(train(job(folder / "two"), comm, silent, StopAt(13))) in ExitCode
    assert to_end(resume_run(folder / "two", (), comm, silent, [])) == ExitCode.DONE
    assert outcome(folder / "two") == outcome(folder / "one")
    assert "cuts" not in last_of(folder / "two").progress


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("stop", [{"episodes": 9, "every": 12}, {"minutes": 1e-4}])
def test_a_criterion_ends_a_run_within_a_tick(stop, kind, comm, folder):
    job = job_of("python", folder / "run", kind, FAR, stop=stop)
    if "episodes" in stop and kind == "periodic":
        job = job.model_copy(update={"mode": type(job.mode)(kind=kind, merge_every=10)})
    assert to_end(train(job, comm, silent, [])) == ExitCode.DONE
    found = outcome(folder / "run")[0]
    assert f"stop.{next(iter(stop))}" in found["ended_by"]
    if "episodes" in stop:
        # In asynchronous mode every check cuts episodes.
        assert found["steps"] < (1000 if kind == "asynchronous" else 100) * 6
        # And once more from its end: nothing is left to do.
        assert to_end(resume_run(folder / "run", (), comm, silent, [])) == ExitCode.DONE
        again = outcome(folder / "run")[0]
        assert (again["steps"], again["digest"]) == (found["steps"], found["digest"])
