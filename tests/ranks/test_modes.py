import make_job
import numpy as np
import pytest
from mpi4py import MPI

from hpcq.checkpoint import restore, saving
from hpcq.checkpoint.reader import verify
from hpcq.envs import resolve
from hpcq.envs.table import garnet, table_environment, table_model
from hpcq.errors import CheckpointError
from hpcq.hashing import mix64
from hpcq.learning import exact, modes

pytestmark = pytest.mark.mpi


def with_mode(job, **mode):
    return job.model_copy(update={"mode": type(job.mode)(**mode)})


def begun(job, comm, environment=None):
    learner = modes.learner(job, environment or resolve(job.environment), comm)
    learner.begin()
    return learner


def whole_table(learner, states):
    """Return q (states, actions) of all ranks together, the same on all."""
    q = np.zeros((states, learner.shard.columns))
    for state, hash_ in enumerate(mix64.py_func(np.arange(states, dtype=np.uint64))):
        slot = learner.shard.row(int(hash_))
        q[state] = slot
    learner.comm.Allreduce(MPI.IN_PLACE, q)
    return q


def separate(regions, states):
    """Return a model of Garnet problems without ways from one to another; starts are anywhere."""
    parts = [garnet(states, 3, 3, seed) for seed in range(regions)]
    return table_model(
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.next + i * states for i, part in enumerate(parts)]),
        np.concatenate([part.reward for part in parts]),
        np.concatenate([part.terminated for part in parts]),
        np.full(regions * states, 1 / (regions * states)),
    )


REGIONS, STATES = 4, 6
PERIODIC = make_job.make(
    {"id": "separate", "count": 8}, learning={"gamma": 0.8, "learning_rate": 0.1},
    exploration={"epsilon": 1.0},
)  # fmt: skip


def test_importance_averaging_beats_equal_averaging_where_ranks_see_different_regions(comm):
    """An environment stays in the region in which it began: few ranks see any one of them."""
    model = separate(REGIONS, STATES)
    truth = exact.value_iteration(model, 0.8)
    environment = table_environment("separate", model, None)
    errors = {}
    for averaging in ("importance", "equal"):
        job = with_mode(PERIODIC, kind="periodic", merge_every=256, averaging=averaging)
        learner = begun(job, comm, environment)
        for _ in range(256 * 8):
            learner.advance()
        found = whole_table(learner, REGIONS * STATES)
        errors[averaging] = np.abs(found - truth).mean()
        learner.close()
    assert errors["importance"] < 0.2 * np.abs(truth).mean()
    if comm.size > 1:
        assert errors["importance"] < 0.6 * errors["equal"]


@pytest.mark.parametrize("case", [make_job.GARNET, make_job.CORRIDOR])
def test_a_periodic_run_goes_on_as_if_it_had_not_been_saved(case, comm, folder):
    job = with_mode(make_job.make(case), kind="periodic", merge_every=16)
    learner = begun(job, comm)
    assert learner.quiet_every == (80 if case is make_job.CORRIDOR else 16)
    for _ in range(80):
        learner.advance()
    path, digest = saving.save(learner, folder, "direct", keep=3)
    assert verify(path)[1] == digest
    for _ in range(160):
        learner.advance()
    again = modes.learner(job, resolve(job.environment), comm)
    restore.load_run(again, path)
    for _ in range(160):
        again.advance()
    assert again.digest() == learner.digest()
    part = comm.Split(comm.rank == 0, comm.rank)
    if comm.size > 1:
        other = modes.learner(job, resolve(job.environment), part)
        with pytest.raises(CheckpointError, match=f"as many ranks as it was saved on: {comm.size}"):
            restore.load_run(other, path)
        other.close()
    part.Free()
    learner.close()
    again.close()


VISITS = {"gamma": 0.8, "learning_rate": {"schedule": "visits", "exponent": 0.7}}
ASYNCHRONOUS = {
    "compiled": make_job.make({**make_job.GARNET, "max_episode_steps": 9}, learning=VISITS),
    "python": make_job.make(make_job.CORRIDOR, learning=VISITS),
    "vector": make_job.make(make_job.VECTOR, learning=VISITS),
    "fewer environments than ranks": make_job.make(
        {**make_job.GARNET, "count": 1}, learning=VISITS
    ),
}


def updates_applied(learner):
    total = sum(int(visits.sum()) for _, _, visits in learner.shard.pieces(1000))
    return learner.comm.allreduce(total)


@pytest.mark.parametrize("case", ASYNCHRONOUS)
def test_every_step_is_learned_from_exactly_once(case, comm):
    """Table counts plus what is still to be sent are the steps: nothing is lost or doubled."""
    job = with_mode(ASYNCHRONOUS[case], kind="asynchronous", parts=3)
    learner = begun(job, comm)
    while learner.tick < 60:
        learner.advance()
    learner.settle()
    pending = comm.allreduce(int(learner.collector.actors.update_pending.sum()))
    if case != "vector":  # Whose environments take resting steps, in which nothing is learned.
        assert updates_applied(learner) + pending == learner.steps
    assert learner.steps >= 60 * job.environment.count
    assert learner.advance(2 if comm.rank == comm.size - 1 else 0) & ~2 == 0
    learner.settle()
    learner.close()


def test_asynchronous_learning_reaches_the_exact_values(comm):
    job = with_mode(
        make_job.make(
            {**make_job.GARNET, "count": 96}, learning=VISITS, exploration={"epsilon": 1.0}
        ),
        kind="asynchronous",
    )
    learner = begun(job, comm)
    truth = exact.value_iteration(learner.environment.model, 0.8)
    while learner.tick < 2000:
        learner.advance()
    learner.settle()
    assert np.abs(whole_table(learner, 50) - truth).max() < 0.05 * np.ptp(truth)
    learner.close()


def test_nobody_waits_for_a_rank_that_only_serves(comm):
    """The last rank steps only after it has served others ten times; lockstep would never end."""
    if comm.size == 1:
        return
    job = with_mode(make_job.make({**make_job.GARNET, "count": 16}), kind="asynchronous")
    learner = begun(job, comm)
    if comm.rank == comm.size - 1:
        step, serve = learner._step, learner._serve_records
        served = [0]

        def count(*arguments):
            served[0] += 1
            serve(*arguments)

        def reluctantly():
            before = served[0]
            for _ in range(100_000):
                if served[0] >= before + 10:
                    break
                learner._serve()
            step()

        learner._step, learner._serve_records = reluctantly, count
    while learner.tick < 200:
        learner.advance()
    taken = comm.allgather(learner._mine)
    if comm.rank == comm.size - 1:
        learner._step = step
    learner.settle()
    assert min(taken[:-1]) > 2 * taken[-1]
    learner.close()


@pytest.mark.parametrize("case", ["compiled", "python"])
def test_an_asynchronous_run_goes_on_on_any_number_of_ranks(case, comm, folder):
    job = with_mode(ASYNCHRONOUS[case], kind="asynchronous")
    learner = begun(job, comm)
    while learner.tick < 60:
        learner.advance()
    learner.settle()
    path, digest = saving.save(learner, folder, "direct", keep=3)
    assert verify(path)[1] == digest
    part = comm.Split(0 if comm.rank == 0 else 1, comm.rank)
    for group in (comm, part):
        again = modes.learner(job, resolve(job.environment), group)
        restore.load_run(again, path)
        assert again.digest() == digest
        assert again.steps == learner.steps
        while again.tick < 100:
            again.advance()
        again.settle()
        pending = group.allreduce(int(again.collector.actors.update_pending.sum()))
        assert updates_applied(again) + pending == again.steps
        again.close()
    part.Free()
    learner.close()
