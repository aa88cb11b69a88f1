"""When a run is saved, and when its table no longer fits, worked out by hand."""

import make_job
import numpy as np
import pytest
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.checkpoint_schedule import CheckpointSchedule
from hpcq.run.memory_limit import GIB, MemoryLimit, most_rows
from hpcq.table.shard import Shard


def saved(plan, ticks, wanted=()):
    """Return the ticks after which the run is saved."""
    found = []
    for tick in range(1, ticks + 1):
        if plan.due(tick, tick in wanted):
            plan.note(tick)
            found.append(tick)
    return found


def plan(quiet=1, **checkpoint):
    job = make_job.make({**make_job.GARNET, "count": 10}, checkpoint={"every": 100, **checkpoint})
    return CheckpointSchedule(job, quiet, 0)


def test_every_so_many_ticks_since_the_last_checkpoint():
    assert saved(plan(), 350) == [100, 200, 300]
    assert saved(plan(), 350, wanted={150}) == [100, 150, 250, 350]


def test_what_is_wanted_waits_for_a_quiet_tick():
    assert saved(plan(quiet=40), 300, wanted={41, 43}) == [80, 200]


def test_milestones_are_the_first_ticks_from_a_step_on():
    milestones = plan(milestones=[1, 10, 11, 995])
    assert milestones.milestones == {10, 20, 1000}
    assert saved(milestones, 150) == [1, 2, 100]
    assert plan(quiet=40, milestones=[1, 401]).milestones == {10, 410}
    assert saved(plan(quiet=40, milestones=[1, 401]), 90) == [40, 80]


def test_the_clock_is_asked_only_where_the_job_says_so(monkeypatch):
    assert not plan().time_is_up()
    timed = plan(minutes=1.0)
    assert not timed.time_is_up()
    monkeypatch.setattr("time.monotonic", lambda now=timed._time + 61: now)
    assert timed.time_is_up()
    timed.note(5)
    assert not timed.time_is_up()


@pytest.mark.parametrize("gib", [0.001, 0.01, 0.3])
def test_as_many_rows_as_fit_and_no_more(gib):
    shard = Shard(1, 6, np.dtype("f8"))
    rows = most_rows(shard, gib)
    assert shard.memory_for(rows)[1] <= gib * GIB < shard.memory_for(rows + 1)[1]


def test_a_shard_takes_what_was_foretold():
    shard = Shard(1, 6, np.dtype("f8"), 0.0, True)
    rows = 5000
    held, peak = shard.memory_for(rows)
    hashes = np.sort(np.random.default_rng(0).integers(0, 2**63, rows, np.uint64))
    shard.load(hashes, np.zeros((rows, 6)), np.zeros((rows, 6), np.uint32))
    assert shard.nbytes == pytest.approx(held, rel=0.02)
    assert held < peak


def test_a_learner_without_room_for_one_tick_does_not_begin():
    job = make_job.make({**make_job.GARNET, "count": 1000}, run={"table_gib": 1e-5})
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
    with pytest.raises(JobError, match=r"rank 0 holds 0 states and needs .* GiB to go on"):
        MemoryLimit(learner).check()
    learner.close()
