"""Only legal actions are taken, learned from and shown."""

import dataclasses

import make_job
import numpy as np
import problems
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.checkpoint import saving
from hpcq.checkpoint.reader import opened, stored_pieces, table_pieces
from hpcq.collectors.batch import Outcome
from hpcq.envs.protocol import compiled_environment, kernel
from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, JobError
from hpcq.hashing import unmix64
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run import compiling, preflight
from hpcq.spaces.masks import bitsets, legal_actions
from hpcq.view.inspect import inspect


def begun(environment, **sections):
    job = make_job.make({"count": 8, "action_mask": True, **environment}, **sections)
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    learner.begin()
    return learner


def advanced(environment, ticks, **sections):
    learner = begun(environment, **sections)
    for _ in range(ticks):
        learner.advance()
    learner.close()
    return learner


def bits_of(hashes):
    masks = [problems.mask_of(key) for key in unmix64.py_func(hashes).tolist()]
    return bitsets(np.array(masks).reshape(-1, 3))


def test_bitsets_and_back():
    masks = np.array([[0, 0, 1], [1, 1, 0]], np.int8)
    assert bitsets(masks).tolist() == [4, 3]
    assert legal_actions(bitsets(masks), 3).tolist() == (masks != 0).tolist()
    assert bitsets(np.ones((1, 64), bool)).tolist() == [2**64 - 1]
    assert legal_actions(np.zeros(1, np.uint64), 2).tolist() == [[True, True]]


@pytest.mark.parametrize("reset_every", [1000, 7])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_a_vector_environments_masks_are_those_of_the_states(mode, reset_every):
    # The environment itself refuses an illegal action.
    environment = {"id": "problems:MaskedVector", "kwargs": {"mode": mode}, "vector": 4}
    learner = begun({**environment, "reset_every": reset_every}, exploration={"epsilon": 0.9})
    batch, truncated = learner.collector.batch, 0
    for tick in range(1, 40):
        learner.advance()
        # `receive` leaves what the step has written.
        assert batch.next_mask.tolist() == bits_of(batch.next_hash).tolist(), tick
        cut = batch.outcome == Outcome.TRUNCATED
        assert batch.final_mask[cut].tolist() == bits_of(batch.final_hash[cut]).tolist(), tick
        truncated += cut.sum()
    assert truncated > 10


@pytest.mark.parametrize("policy", ["uniform", "epsilon_greedy"])
def test_a_scalar_environments_masks_are_respected(policy):
    learner = advanced({"id": "problems:Masked"}, 300, exploration={"policy": policy})
    assert learner.collector.batch.episodes.sum() > 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("shape", r"info\['action_mask'\] is array.*, expected 3 numbers 0 or 1"),
        ("text", r"info\['action_mask'\] is '101', expected 3 numbers 0 or 1"),
        ("nothing legal", r"info\['action_mask'\] permits no action"),
        ("missing", r"info has \[\], expected 'action_mask', since environment.action_mask = true"),
    ],
)
def test_a_bad_mask_is_one_message(wrong, words):
    environment = {"id": "problems:Masked", "kwargs": {"wrong": wrong}}
    with pytest.raises(EnvironmentFault, match=rf"environment 0 .*, tick \d, episode 0.*{words}"):
        advanced(environment, 10)
    job = make_job.make({**environment, "count": 2, "action_mask": True})
    with pytest.raises(EnvironmentFault, match=words):
        preflight.check(job, resolve(job.environment), 0, 1)


@pytest.mark.parametrize(
    ("wrong", "mode", "words"),
    [
        ("count", "NEXT_STEP", "expected 4 masks"),
        ("final", "SAME_STEP", "final_info: info is a NoneType, expected 'action_mask'"),
    ],
)
def test_a_bad_mask_of_a_vector_environment(wrong, mode, words):
    kwargs = {"wrong": wrong, "mode": mode}
    environment = {"id": "problems:MaskedVector", "kwargs": kwargs, "vector": 4}
    with pytest.raises(EnvironmentFault, match=words):
        advanced(environment, 20)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"id": "FrozenLake-v1"}, "FrozenLake-v1 does not say which actions are legal"),
        ({"id": "problems:Masked", "kwargs": {"actions": 1025}}, "1,025 actions; .* at most 1,024"),
    ],
)
def test_masks_that_cannot_be(environment, words):
    job = make_job.make({**environment, "action_mask": True})
    with pytest.raises(JobError, match=words):
        resolve(job.environment)


def test_taxis_compiled_masks_are_gymnasiums():
    job = make_job.make({"id": "Taxi-v4", "action_mask": True})
    environment = resolve(job.environment)
    import gymnasium

    taxi = gymnasium.make("Taxi-v4").unwrapped
    for state in range(500):
        mask = int(environment.mask(state)[0])
        assert [mask >> a & 1 for a in range(6)] == taxi.action_mask(state).tolist()


def test_an_illegal_action_is_never_shown_as_greedy(tmp_path):
    # Every move costs, so that what was never tried, an illegal one above all, looks best.
    learner = advanced(
        {"id": "hpcq/TicTacToe-v0"},
        60,
        learning={"rule": "negamax", "gamma": 1.0, "q_init": 5.0},
    )
    path, _ = saving.save(learner, tmp_path, "direct", keep=1)
    with opened(path) as (file, header):
        for hashes, q, _ in table_pieces(file, header, 0, header.rows):
            for key, row in zip(unmix64.py_func(hashes).tolist(), q, strict=True):
                # Base 3, the first cell the most significant digit: 0 is free.
                board = [key // 3 ** (8 - cell) % 3 for cell in range(9)]
                assert np.isfinite(row).tolist() == [stone == 0 for stone in board]
        assert all(m.all() for *_, m in stored_pieces(file, header, 0, header.rows))
    for row in inspect(path)["largest"]:
        free = [cell for cell, stone in enumerate(np.ravel(row["observation"])) if stone == 0]
        assert set(row["greedy"]) <= set(free)
        assert [value is not None for value in row["q"]] == [c in free for c in range(9)]


@kernel
def _start(model, draw):
    return np.uint64(7)


@kernel
def _take(model, key, action, draw):
    # Of what is not there nothing can be taken: the number would become a huge one.
    left = key - np.uint64(action + 1)
    return left, 0.0, left == np.uint64(0)


@kernel
def _what_is_there(model, key):
    return np.uint64(7) >> np.uint64(3 - min(np.int64(key), 3))


def test_a_compiled_environment_is_tried_with_legal_actions_only():
    environment = compiled_environment(_start, _take, observation=10, actions=3)
    with pytest.raises(EnvironmentFault, match=r"expected keys in 0 \.\.\. 9"):
        compiling.check_compiled(environment)
    compiling.check_compiled(dataclasses.replace(environment, legal=_what_is_there))


def test_a_compiled_reset_that_leaves_the_space_is_named():
    environment = compiled_environment(_start, _take, observation=5, actions=3)
    with pytest.raises(EnvironmentFault, match=r"reset\(.*\) gives 7, expected a key in 0 ... 4"):
        compiling.check_compiled(environment)
