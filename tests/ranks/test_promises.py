import json

import h5py
import make_job
import numpy as np
import pytest
from compiled_once import compile_once
from mpi4py import MPI
from outcomes import verified
from soaked import soak

from hpcq.checkpoint import restore, saving, snapshot
from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.collectors.base import block
from hpcq.collectors.batch import ENVIRONMENT_FIELDS
from hpcq.envs.resolve import resolve
from hpcq.job.sections import ModeSection, ReplaySection
from hpcq.learning.lockstep import LockstepLearner

pytestmark = pytest.mark.mpi

WRITERS = ["direct", "gather", *(["mpio"] if HAS_MPI else [])]
VISITS = {"learning_rate": {"schedule": "visits", "exponent": 0.8}}
CASES = {
    "garnet": make_job.make(make_job.GARNET),
    "garnet float32, visits": make_job.make(
        make_job.GARNET, learning={**VISITS, "dtype": "float32"}
    ),
    "truncated": make_job.make({**make_job.GARNET, "max_episode_steps": 5}),
    "fewer environments than ranks": make_job.make({**make_job.GARNET, "count": 1}),
    "fewer states than ranks": make_job.make(
        {"id": "hpcq/Garnet-v0", "kwargs": {"states": 2, "actions": 2, "branching": 1}, "count": 6}
    ),
    "python": make_job.make(make_job.CORRIDOR, learning=VISITS),
    "global generators": make_job.make(
        {"id": "problems:Careless", "seed_globals": True, "count": 5, "reset_every": 40}
    ),
    "vector": make_job.make(make_job.VECTOR, learning=VISITS),
    "vector, fewer units than ranks": make_job.make({**make_job.VECTOR, "count": 2}),
    "continuous": make_job.make(
        {"id": "hpcq/Pendulum-v0", "count": 5, "max_episode_steps": 30, "reset_every": 40}
    ),
    "negamax": make_job.make(
        {"id": "hpcq/TicTacToe-v0", "count": 5}, learning={"rule": "negamax", "gamma": 1.0}
    ),
    "double Q, several steps": make_job.make(
        {**make_job.GARNET, "max_episode_steps": 9}, learning={"rule": "double_q", "n_step": 4}
    ),
    "masks, upper bounds": make_job.make(
        {"id": "hpcq/TicTacToe-v0", "count": 7, "action_mask": True},
        learning={"rule": "negamax", "gamma": 1.0, "n_step": 3},
        exploration={"policy": "ucb", "confidence": 0.5},
    ),
    "python, several steps": make_job.make(
        make_job.CORRIDOR,
        learning={"rule": "sarsa", "n_step": 5, "trace_decay": 0.8},
        exploration={
            "policy": "boltzmann",
            "temperature": {"schedule": "linear", "start": 2.0, "end": 0.1, "steps": 900},
        },
    ),
    "python, fewer environments than ranks": make_job.make({**make_job.CORRIDOR, "count": 2}),
}


def replayed(job, ratio, capacity, **keys):
    section = ReplaySection(ratio=ratio, capacity=capacity, **keys)
    return job.model_copy(update={"replay": section})


def batched(job, batches=2):
    return job.model_copy(update={"mode": ModeSection(batches=batches)})


CASES |= {
    "epsilon by episodes, replay": replayed(
        make_job.make(
            {**make_job.GARNET, "max_episode_steps": 5},
            learning={"rule": "sarsa"},
            exploration={"epsilon": {"schedule": "episodes", "decay": 0.9}},
        ),
        2,
        100,
    ),
    "two batches": batched(make_job.make({**make_job.GARNET, "max_episode_steps": 5})),
    "three batches, masks, several steps": batched(CASES["masks, upper bounds"], 3),
    "two batches, python": batched(CASES["python"]),
    "two batches, vector": batched(CASES["vector"]),
    "two batches, continuous": batched(CASES["continuous"]),
    "two batches, replay by priority": batched(
        replayed(
            make_job.make({**make_job.GARNET, "max_episode_steps": 5}),
            3,
            100,
            sampling="prioritised",
        )
    ),
    "as many batches as environments": batched(make_job.make({**make_job.GARNET, "count": 3}), 3),
    "replay": replayed(make_job.make({**make_job.GARNET, "max_episode_steps": 5}), 3, 100),
    "replay, python, double Q": replayed(
        make_job.make(make_job.CORRIDOR, learning={**VISITS, "rule": "double_q"}), 1, 1000
    ),
    "replay, vector": replayed(make_job.make(make_job.VECTOR), 2, 30),
    "replay by priority": replayed(
        make_job.make({**make_job.GARNET, "max_episode_steps": 5}), 3, 100, sampling="prioritised"
    ),
    "replay by priority, python, double Q": replayed(
        make_job.make(
            make_job.CORRIDOR, learning={**VISITS, "rule": "double_q", "dtype": "float32"}
        ),
        1,
        1000,
        sampling="prioritised",
        importance_exponent={"schedule": "linear", "start": 0.4, "end": 1.0, "steps": 700},
    ),
    "replay by priority, masks": replayed(
        make_job.make(
            {"id": "hpcq/TicTacToe-v0", "count": 7, "action_mask": True},
            learning={"rule": "negamax", "gamma": 1.0},
        ),
        2,
        200,
        sampling="prioritised",
        learning_starts=9,
    ),
    "replay by priority, vector": replayed(
        make_job.make(make_job.VECTOR), 2, 30, sampling="prioritised"
    ),
}


# Masks of several words: in every way of stepping, with what keeps them for later ticks.
WIDE = {"id": "wide:WIDE", "count": 7, "action_mask": True}
CASES |= {
    "200 actions, upper bounds, several steps": make_job.make(
        WIDE,
        learning={**VISITS, "rule": "double_q", "n_step": 3},
        exploration={"policy": "ucb", "confidence": 0.5},
    ),
    "200 actions, two batches, replay by priority": batched(
        replayed(make_job.make(WIDE), 2, 100, sampling="prioritised")
    ),
    "101 actions, python, several steps": make_job.make(
        {**WIDE, "id": "wide:Walk", "reset_every": 40}, learning={"rule": "sarsa", "n_step": 4}
    ),
    "101 actions, vector, replay": replayed(
        make_job.make({**WIDE, "id": "wide:walks", "count": 6, "vector": 2, "reset_every": 40}),
        1,
        60,
    ),
}


# Each case with one writer, and with the others.
SAVED = [(case, WRITERS[i % len(WRITERS)]) for i, case in enumerate(CASES)]
SAVED += soak(
    *((case, writer) for case in CASES for writer in WRITERS if (case, writer) not in SAVED)
)


def begin(job, comm):
    return LockstepLearner(job, resolve(job.environment), comm)


def train(job, comm, ticks):
    learner = begin(job, comm)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    return learner


def content(path):
    """Return everything in a file but what names its writers."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[:].tolist()})
                if isinstance(item, h5py.Dataset) and name != "integrity/extents"
                else None
            )
        )
        found.update(
            {k: v for k, v in file.attrs.items() if k not in ("ranks", "versions", "crc32")}
        )
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_same_table_on_any_number_of_ranks(case, group):
    compile_once(CASES[case])
    learner = train(CASES[case], group, 200)
    alone = train(CASES[case], MPI.COMM_SELF, 200)
    assert learner.digest() == alone.digest()
    learner.close()


@pytest.mark.parametrize(("case", "writer"), SAVED)
def test_a_file_is_the_same_whoever_writes_it(case, writer, comm, folder):
    job = CASES[case]
    compile_once(job)
    learner = train(job, comm, 80)
    path, digest = saving.save(learner, folder, writer, keep=3)
    assert digest == learner.digest()
    assert verified(path, comm)[1] == digest
    alone = train(job, MPI.COMM_SELF, 80)
    own = folder / f"own-{comm.rank}"
    own.mkdir()
    other, _ = saving.save(alone, own, "gather", keep=3)
    assert content(path) == content(other)
    other.unlink()
    own.rmdir()
    learner.close()


@pytest.mark.parametrize(("case", "writer"), SAVED)
def test_saved_on_all_ranks_and_resumed_on_fewer(case, writer, comm, folder):
    """Tick 80 is saved by all ranks; every smaller group of ranks goes on to tick 200."""
    job = CASES[case]
    compile_once(job)
    learner = train(job, comm, 80)
    path, _ = saving.save(learner, folder, writer, keep=3)
    for _ in range(120):
        learner.advance()
    uninterrupted = learner.digest()
    for size in range(1, comm.size + 1):
        part = comm.Split(0 if comm.rank < size else MPI.UNDEFINED, comm.rank)
        if part != MPI.COMM_NULL:
            resumed = begin(job, part)
            restore.load_run(resumed, path)
            assert resumed.tick == 80
            for _ in range(120):
                resumed.advance()
            assert resumed.digest() == uninterrupted
            resumed.close()
            part.Free()
        comm.Barrier()
    learner.close()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_saved_on_one_rank_and_resumed_on_all(size, comm, folder):
    job = make_job.make({**make_job.GARNET, "count": size})
    compile_once(job)
    if comm.rank == 0:
        saving.save(train(job, MPI.COMM_SELF, 30), folder, "gather", keep=1)
    comm.Barrier()
    learner = begin(job, comm)
    restore.load_run(learner, next(folder.glob("ckpt-*.h5")))
    for _ in range(30):
        learner.advance()
    assert learner.digest() == train(job, MPI.COMM_SELF, 60).digest()
    learner.close()


def test_small_pieces_make_the_same_file(comm, folder, monkeypatch):
    job = CASES["garnet float32, visits"]
    learner = train(job, comm, 100)
    whole, _ = saving.save(learner, folder, WRITERS[0], keep=9)
    expected = content(whole)
    for writer in WRITERS:
        monkeypatch.setattr(snapshot, "PIECE_BYTES", 64)
        path, _ = saving.save(learner, folder, writer, keep=9)
        verified(path, comm)
        assert content(path) == expected
    learner.close()


def test_environment_columns_are_in_environment_order(comm, folder):
    learner = train(CASES["garnet"], comm, 30)
    path, _ = saving.save(learner, folder, WRITERS[0], keep=1)
    with h5py.File(path, "r") as file:
        assert file["table/key"][:].dtype == np.uint64
        for field in ENVIRONMENT_FIELDS:
            assert file[field.dataset].shape == (12,)
        start, count = block(comm.rank, comm.size, 12)
        mine = file["environments/action"][start : start + count]
        assert mine.tolist() == learner.collector.batch.action.tolist()
        assert json.loads(file.attrs["job"])["environment"]["count"] == 12
    learner.close()
