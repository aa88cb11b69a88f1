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
    q = np.zeros((states, learner.shard.actions))
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
        for _ in range(256 * 10):
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
