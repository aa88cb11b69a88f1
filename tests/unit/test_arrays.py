"""Models as arrays: what is read, solved and learned on; and what is refused."""

import h5py
import make_job
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from outcomes import silent
from truths import rows

from hpcq.checkpoint.files import list_checkpoints
from hpcq.envs.arrays import sparse_model
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import mix64
from hpcq.job.environment_section import EnvironmentSection
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.exploring import explore
from hpcq.run.solving import solve

HASHES = mix64.py_func(np.arange(2, dtype=np.uint64))

# Two states: action 0 of state 0 is a lottery, action 1 is illegal in state 1.
SMALL = {
    "start": np.array([1.0, 0.0]),
    "indptr": np.array([0, 2, 3, 4, 4]),
    "next": np.array([0, 1, 1, 0]),
    "probability": np.array([0.25, 0.75, 1.0, 1.0]),
    "reward": np.array([2.0, 0.0, -1.0, 4.0]),
    "terminated": np.array([False, False, False, True]),
}


def solved(section, folder, gamma=0.9):
    job = make_job.make(
        {"count": 4, **section}, learning={"gamma": gamma}, run={"directory": str(folder)}
    )
    assert solve(job, MPI.COMM_SELF, silent, []) == 0
    return rows(list_checkpoints(folder)[0])


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_a_file_is_solved_and_learned_on(suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    if suffix == "npz":
        np.savez(path, **SMALL)
    else:
        with h5py.File(path, "w") as file:
            for name, array in SMALL.items():
                file[name] = array
    section = {"id": str(path), "action_mask": True}
    found = solved(section, tmp_path / "run")
    # By hand: V(1) = 4; V(0) = max(0.5 + 0.9 (V(0) / 4 + 3), -1 + 0.9 * 4).
    value = (0.5 + 0.9 * 3) / (1 - 0.9 / 4)
    assert found[1].tolist() == [4.0, -np.inf]
    assert found[0] == pytest.approx([value, 2.6], abs=1e-6)
    job = make_job.make(
        {**section, "count": 8}, exploration={"epsilon": 1.0}, learning={"learning_rate": 0.01}
    )
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    while learner.tick < 4000:
        learner.advance(last=4000)
    q = {key: learner.shard.row(int(hash_)) for key, hash_ in zip((0, 1), HASHES, strict=True)}
    assert q[0] == pytest.approx([value, 2.6], rel=0.05)
    learner.close()


@pytest.mark.parametrize(
    "section",
    [
        {"id": "FrozenLake-v1"},
        {"id": "hpcq/Blackjack-v0"},
        {"id": "hpcq/TicTacToe-v0", "kwargs": {"opponent": "random"}, "action_mask": True},
    ],
    ids=lambda section: section["id"],
)
def test_what_is_exported_has_the_same_solution(section, tmp_path):
    path = tmp_path / "model.npz"
    job = make_job.make({"count": 4, **section}, learning={"gamma": 0.9})
    assert explore(job, MPI.COMM_SELF, silent, [], export=path) == 0
    here = solved(section, tmp_path / "a")
    there = solved(
        {"id": str(path), "action_mask": section.get("action_mask", False)}, tmp_path / "b"
    )
    keys = np.load(path)["key"]
    assert len(here) == len(there) == keys.size
    for number, q in there.items():
        assert q == pytest.approx(here[int(keys[number])], abs=2e-6)


WRONG = [
    ({"indptr": np.array([0, 2, 3, 4])}, "indptr has the shape"),
    ({"indptr": np.array([0, 3, 2, 4, 4])}, "go up from 0"),
    ({"next": np.array([0, 1, 2, 0])}, "next has a value outside 0 ... 1"),
    ({"probability": np.array([0.25, 0.7, 1, 1])}, "state 0, action 0 add up to 0.95"),
    ({"reward": np.array([2.0, np.nan, 1, 4])}, "not finite"),
    ({"reward": np.zeros(3)}, "reward has the shape"),
    ({"discount": np.zeros(1)}, "'discount' has no meaning"),
    (
        {"indptr": np.array([0, 2, 4, 4, 4]), "probability": np.array([0.25, 0.75, 0.5, 0.5])},
        "state 1 has no action",
    ),
    ({"start": np.zeros(2)}, "start not all 0"),
]


@pytest.mark.parametrize(("change", "text"), WRONG)
def test_wrong_arrays_are_named(change, text, tmp_path):
    np.savez(tmp_path / "model.npz", **(SMALL | change))
    with pytest.raises(JobError, match="model.npz") as error:
        resolve(EnvironmentSection(id=str(tmp_path / "model.npz")))
    assert text in str(error.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(JobError, match="no file"):
        resolve(EnvironmentSection(id=str(tmp_path / "none.npz")))
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "less.npz", start=np.ones(1))
    np.savez(tmp_path / "objects.npz", start=np.array([{}], object))
    for name in ("text.npz", "less.npz", "objects.npz"):
        with pytest.raises(JobError, match=name):
            resolve(EnvironmentSection(id=str(tmp_path / name)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_model_that_is_taken_draws_its_own_outcomes(data):
    states, actions = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    counts = data.draw(
        st.lists(st.integers(1, 4), min_size=states * actions, max_size=states * actions)
    )
    n = sum(counts)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    weight = rng.random(n) + 0.1
    indptr = np.concatenate([[0], np.cumsum(counts)])
    sums = np.add.reduceat(weight, indptr[:-1])
    model = sparse_model(
        np.ones(states),
        indptr,
        rng.integers(states, size=n),
        weight / np.repeat(sums, counts),
        rng.random(states * actions),
    )
    assert model.actions == actions
    assert model.reward.size == n
    assert model.legal.size == 0
