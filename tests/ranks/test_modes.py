import make_job
import numpy as np
import problems
import pytest
import wide
from compiled_once import compile_once
from mpi4py import MPI
from outcomes import verified

from hpcq.bench.modes import gathered, regions
from hpcq.checkpoint import restore, saving
from hpcq.envs.resolve import resolve
from hpcq.envs.tabular import table_environment
from hpcq.errors import CheckpointError
from hpcq.hashing import unmix64
from hpcq.learning import exact, modes
from hpcq.learning.asynchronous import AsynchronousLearner
from hpcq.spaces.masks import bitsets

pytestmark = pytest.mark.mpi


def with_mode(job, **mode):
    return job.model_copy(update={"mode": type(job.mode)(**mode)})


def begun(job, comm, environment=None):
    compile_once(job, environment)
    learner = modes.make_learner(job, environment or resolve(job.environment), comm)
    learner.begin()
    return learner


STATES = 6
PERIODIC = make_job.make(
    {"id": "separate", "count": 8}, learning={"gamma": 0.8, "learning_rate": 0.1},
    exploration={"epsilon": 1.0},
)  # fmt: skip


def test_importance_averaging_beats_equal_averaging_where_ranks_see_different_regions(comm):
    """Every rank sees a region of its own."""
    model = regions(comm.size, STATES, range(comm.rank, comm.rank + 1))
    truth = exact.value_iteration(model, 0.8)
    environment = table_environment("separate", model, None)
    errors = {}
    for averaging in ("importance", "equal"):
        job = with_mode(PERIODIC, kind="periodic", merge_every=256, averaging=averaging)
        learner = begun(job, comm, environment)
        for _ in range(256 * 8):
            learner.advance()
        found = gathered(learner, comm.size * STATES)
        errors[averaging] = np.abs(found - truth).mean()
        learner.close()
    assert errors["importance"] < 0.2 * np.abs(truth).mean()
    if comm.size > 1:
        assert errors["importance"] < 0.6 * errors["equal"]


MASKED = {"id": "problems:Masked", "action_mask": True, "count": 5, "reset_every": 40}
WALK = {**MASKED, "id": "wide:Walk"}
RUNS = {
    "compiled": make_job.make(make_job.GARNET),
    "python": make_job.make(make_job.CORRIDOR),
    "visit counts": make_job.make(
        make_job.GARNET, exploration={"policy": "ucb", "confidence": 1.0}
    ),
    "masks": make_job.make(MASKED),
    "101 actions": make_job.make(WALK),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_periodic_table_does_not_depend_on_the_ranks(case, comm, folder):
    """Three agents on all ranks, saved, resumed on some of them; and on each rank by itself."""
    job = with_mode(RUNS[case], kind="periodic", merge_every=16, agents=3)
    learner = begun(job, comm)
    assert learner.save_every == (80 if case in ("python", "masks", "101 actions") else 16)
    for _ in range(80):
        learner.advance()
    path, digest = saving.save(learner, folder, "direct", keep=3)
    assert verified(path, comm)[1] == digest
    for _ in range(160):
        learner.advance()
    part = comm.Split(comm.rank == 0, comm.rank)
    for ranks in (comm, part):
        again = modes.make_learner(job, resolve(job.environment), ranks)
        restore.load_run(again, path)
        for _ in range(160):
            again.advance()
        assert again.digest() == learner.digest()
        again.close()
    alone = begun(job, MPI.COMM_SELF)
    for _ in range(240):
        alone.advance()
    assert alone.digest() == learner.digest()
    alone.close()
    other = modes.make_learner(with_mode(job, kind="periodic", agents=4), alone.environment, part)
    with pytest.raises(CheckpointError, match="copies of 3 agents, but mode.agents is 4"):
        restore.load_run(other, path)
    other.close()
    part.Free()
    learner.close()


def test_without_a_number_every_rank_is_an_agent(comm):
    job = with_mode(RUNS["compiled"], kind="periodic", merge_every=16)
    learner = begun(job, comm)
    said = begun(with_mode(job, kind="periodic", merge_every=16, agents=comm.size), comm)
    for one in (learner, said):
        for _ in range(80):
            one.advance()
    assert learner.digest() == said.digest()
    for one in (learner, said):
        one.close()


def counts(shard):
    """Return {hash: visit counts} of a shard's rows."""
    return {
        hash_: row
        for hashes, _, visits in shard.pieces(1000)
        for hash_, row in zip(hashes.tolist(), visits.tolist(), strict=True)
    }


def test_visit_counts_of_a_periodic_run_are_those_of_all_ranks(comm):
    job = with_mode(RUNS["visit counts"], kind="periodic", merge_every=16)
    learner = begun(job, comm)
    for _ in range(64):
        learner.advance()
    pending = comm.allreduce(int(learner.collector.batch.update_pending.sum()))
    assert updates_applied(learner) + pending == learner.steps
    # Copies have the counts of their owners: more than this rank has made itself.
    everything = {}
    for part in comm.allgather(counts(learner.shard)):
        everything |= part
    copies = counts(learner.agents[0].rows)
    assert copies == {state: everything.get(state, [0, 0, 0]) for state in copies}
    assert comm.size == 1 or sum(map(sum, copies.values())) > learner.steps / comm.size
    learner.close()


def walk_mask_of(state):
    return np.isin(np.arange(101), wide.legal_of(state, 101))


@pytest.mark.parametrize("kind", ["periodic", "asynchronous"])
@pytest.mark.parametrize(
    ("environment", "mask_of", "least"), [(MASKED, problems.mask_of, 50), (WALK, walk_mask_of, 25)]
)
def test_only_legal_actions_are_taken_and_known(environment, mask_of, least, kind, comm):
    """The environment itself refuses others."""
    learner = begun(with_mode(make_job.make(environment), kind=kind), comm)
    while learner.tick < 128:
        learner.advance()
    learner.quiesce()
    rows = 0
    for hashes, _, _, masks in learner.shard.pieces_with_masks(1000):
        keys = unmix64.py_func(hashes).tolist()
        legal = bitsets(np.array([mask_of(key) for key in keys]))
        assert masks.tolist() == legal.reshape(masks.shape).tolist()
        rows += len(keys)
    assert comm.allreduce(rows) >= least
    learner.close()


VISITS = {"gamma": 0.8, "learning_rate": {"schedule": "visits", "exponent": 0.7}}
ASYNCHRONOUS = {
    "compiled": make_job.make({**make_job.GARNET, "max_episode_steps": 9}, learning=VISITS),
    "python": make_job.make(make_job.CORRIDOR, learning=VISITS),
    "vector": make_job.make(make_job.VECTOR, learning=VISITS),
    "masks": make_job.make(MASKED, learning=VISITS),
    "200 actions, compiled": make_job.make(
        {"id": "wide:WIDE", "action_mask": True, "count": 5}, learning=VISITS
    ),
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
    learner.quiesce()
    pending = comm.allreduce(int(learner.collector.batch.update_pending.sum()))
    if case != "vector":  # Whose environments take resting steps, in which nothing is learned.
        assert updates_applied(learner) + pending == learner.steps
    assert learner.steps >= 60 * job.environment.count
    assert learner.advance(2 if comm.rank == comm.size - 1 else 0) & ~2 == 0
    learner.quiesce()
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
    learner.quiesce()
    assert np.abs(gathered(learner, 50) - truth).max() < 0.05 * np.ptp(truth)
    learner.close()


@pytest.mark.parametrize("flat", [False, True])
def test_nobody_waits_for_a_rank_that_only_serves(flat, comm):
    """The last rank steps only after it has served others ten times; lockstep would never end."""
    if comm.size == 1:
        return
    job = with_mode(ASYNCHRONOUS["python"], kind="asynchronous")
    learner = AsynchronousLearner(job, resolve(job.environment), comm, flat)
    learner.begin()
    if comm.rank == comm.size - 1:
        step, server = learner._step, learner._server

        def reluctantly(part):
            before = server.served
            for _ in range(10_000):
                if server.served >= before + 10:
                    break
                if server.serve() == 0:
                    server.listen(server.hear())
            step(part)

        learner._step = reluctantly
    while learner.tick < 200:
        learner.advance()
    taken = comm.allgather(learner._own_steps)
    if comm.rank == comm.size - 1:
        learner._step = step
    learner.quiesce()
    # All together: with more ranks than cores, one may have been given little time.
    assert sum(taken[:-1]) > 2 * (comm.size - 1) * taken[-1]
    learner.close()


@pytest.mark.parametrize("case", ["compiled", "python", "masks", "200 actions, compiled"])
def test_an_asynchronous_run_goes_on_on_any_number_of_ranks(case, comm, folder):
    job = with_mode(ASYNCHRONOUS[case], kind="asynchronous")
    learner = begun(job, comm)
    while learner.tick < 60:
        learner.advance()
    learner.quiesce()
    path, digest = saving.save(learner, folder, "direct", keep=3)
    assert verified(path, comm)[1] == digest
    part = comm.Split(0 if comm.rank == 0 else 1, comm.rank)
    for group in (comm, part):
        again = modes.make_learner(job, resolve(job.environment), group)
        restore.load_run(again, path)
        assert again.digest() == digest
        assert again.steps == learner.steps
        while again.tick < 100:
            again.advance()
        again.quiesce()
        pending = group.allreduce(int(again.collector.batch.update_pending.sum()))
        assert updates_applied(again) + pending == again.steps
        again.close()
    part.Free()
    learner.close()


def test_two_learners_on_one_communicator_keep_their_messages_apart(comm):
    job = with_mode(ASYNCHRONOUS["compiled"], kind="asynchronous")
    compile_once(job)
    learners = [
        AsynchronousLearner(job, resolve(job.environment), comm, flat=True) for _ in range(2)
    ]
    for learner in learners:
        learner.begin()
    while min(learner.tick for learner in learners) < 60:
        for learner in learners:
            learner.advance()
    for learner in learners:
        learner.quiesce()
        pending = comm.allreduce(int(learner.collector.batch.update_pending.sum()))
        assert updates_applied(learner) + pending == learner.steps
        learner.close()
