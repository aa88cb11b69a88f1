"""Evaluations and stopping rules decide the same on any number of ranks, and after a resume."""

import make_job
import pytest
from mpi4py import MPI
from outcomes import StopAt, outcome, silent, verified

from hpcq.errors import ExitCode
from hpcq.run.start_or_resume import resume_run, to_end, train

pytestmark = pytest.mark.mpi

SURE = {"id": "FrozenLake-v1", "kwargs": {"is_slippery": False}, "count": 6}
UNIFORM = {"epsilon": 1.0}
EXACTLY = {"learning_rate": 1.0}
OFTEN = {"every": 300, "episodes": 5}
ENDINGS = {
    "episodes": make_job.make(
        {**make_job.GARNET, "max_episode_steps": 5}, stop={"episodes": 500, "every": 120}
    ),
    "td_error": make_job.make(
        SURE, learning=EXACTLY, exploration=UNIFORM, stop={"td_error": 0.0, "td_window": 1200}
    ),
    "bellman_residual": make_job.make(
        SURE,
        learning=EXACTLY,
        exploration=UNIFORM,
        stop={"bellman_residual": 1e-12, "every": 240},
    ),
    "evaluation_return": make_job.make(
        SURE, exploration=UNIFORM, evaluation=OFTEN, stop={"evaluation_return": 1.0}
    ),
    "patience": make_job.make(
        {"id": "FrozenLake-v1", "count": 6}, evaluation=OFTEN, stop={"patience": 4}
    ),
    "patience, python": make_job.make(
        make_job.CORRIDOR,
        evaluation={"every": 1, "episodes": 3},
        stop={"patience": 2, "episodes": 100_000, "every": 1},
        run={"cut_episodes": False},
    ),
}


def long(job, directory):
    section = job.run.model_copy(update={"steps": 1 << 30, "directory": str(directory)})
    return job.model_copy(update={"run": section})


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_at_the_same_step(ending, comm, folder):
    job = ENDINGS[ending]
    if comm.rank == 0:
        training = train(long(job, folder / "alone"), MPI.COMM_SELF, silent, [])
        assert to_end(training) == ExitCode.DONE
    comm.Barrier()
    alone = outcome(folder / "alone")
    assert ending.split(",")[0] in alone[0]["ended_by"]
    assert to_end(train(long(job, folder / "all"), comm, silent, [])) == ExitCode.DONE
    assert outcome(folder / "all") == alone
    # Stopped by a signal in the middle of things, on fewer ranks, and resumed on all.
    ticks = alone[0]["steps"] // job.environment.count
    fewer = comm.Split(0 if comm.rank < max(1, comm.size - 1) else MPI.UNDEFINED, comm.rank)
    if fewer != MPI.COMM_NULL:
        stop = StopAt(2 * ticks // 3)
        code = to_end(train(long(job, folder / "stopped"), fewer, silent, stop))
        # Between two reset ticks a stop waits for the next one, which may be the end.
        assert code in (ExitCode.STOPPED, ExitCode.DONE)
        fewer.Free()
    comm.Barrier()
    assert to_end(resume_run(folder / "stopped", (), comm, silent, [])) == ExitCode.DONE
    assert outcome(folder / "stopped") == alone
    if ending in ("patience", "td_error", "episodes"):
        # And once more from its end: nothing is left to do.
        assert to_end(resume_run(folder / "stopped", (), comm, silent, [])) == ExitCode.DONE
        assert outcome(folder / "stopped") == alone


MODES = {"periodic": {"merge_every": 10}, "asynchronous": {"parts": 2, "max_staleness": 4}}


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("periodic", "td_error"),
        ("periodic", "patience, python"),
        ("asynchronous", "td_error"),
        ("asynchronous", "bellman_residual"),
        ("asynchronous", "patience, python"),
    ],
)
def test_other_modes_end_by_the_same_rules(kind, ending, comm, folder):
    job = ENDINGS[ending]
    job = job.model_copy(update={"mode": type(job.mode)(kind=kind, **MODES[kind])})
    assert to_end(train(long(job, folder / "run"), comm, silent, [])) == ExitCode.DONE
    found, evaluations = outcome(folder / "run")
    assert ending.split(",")[0] in found["ended_by"]
    stop = StopAt(found["steps"] // job.environment.count // 2)
    code = to_end(train(long(job, folder / "stopped"), comm, silent, stop))
    assert code in (ExitCode.STOPPED, ExitCode.DONE)
    assert to_end(resume_run(folder / "stopped", (), comm, silent, [])) == ExitCode.DONE
    again = outcome(folder / "stopped")
    if kind == "periodic":
        assert again == (found, evaluations)
    assert ending.split(",")[0] in again[0]["ended_by"]
    # And once more from its end: nothing is left to do.
    assert to_end(resume_run(folder / "stopped", (), comm, silent, [])) == ExitCode.DONE
    assert outcome(folder / "stopped") == again
    if evaluations:
        best = folder / "run" / "best.h5"
        assert verified(best, comm)[0].step == found["best_step"]
        assert found["best_return"] == max(mean for _, mean, _ in evaluations)
