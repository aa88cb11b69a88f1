"""Averages of values and their intervals: by the definition, over the life of a run, as shown."""

import json

import make_job
import numpy as np
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.checkpoint import restore, saving
from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.verification import verify
from hpcq.collectors.centring import RATE
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import keys_of
from hpcq.jit.compiler import kernel
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.interval_kernels import add_value
from hpcq.learning.intervals import COUNT, SUMS, estimates, first_sums
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.estimate import estimate
from hpcq.view import inspect
from hpcq.view.present import row_text, summary_text
from hpcq.view.table import Table

GARNET = {**make_job.GARNET, "count": 1}
VISITS = {"schedule": "visits", "exponent": 0.6}


def by_definition(values):
    """Return the mean of some values, and half the width of its interval."""
    n = len(values)
    means = np.cumsum(values) / np.arange(1, n + 1)
    scale = (np.arange(1, n + 1) ** 2 * (means - means[-1]) ** 2).sum() / n**2
    return means[-1], 6.747 * np.sqrt(scale / n)


@kernel
def add_all(q, values):
    for k in range(values.shape[0]):
        for column in range(values.shape[1]):
            q[0, column] = values[k, column]
            add_value(q, np.uint64(0), values.shape[1], np.uint64(column), 0.0)


def added(values, after=0):
    """Return the means of columns of values, and half the widths of their intervals."""
    columns = values.shape[1]
    q = np.concatenate([np.zeros((1, columns)), first_sums(1, columns, after)], axis=1)
    add_all(q, values)
    return estimates(q[0, columns:].reshape(columns, SUMS))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_sums_are_those_of_the_definition(offset):
    """Also far from 0, where differences of sums of squares would have no digits left."""
    values = offset + np.random.default_rng(1).normal(size=(400, 3))
    for after in (0, 100):
        mean, width = added(values, after)
        expected = [by_definition(column[after:]) for column in values.T]
        assert np.allclose(mean, [m for m, _ in expected], rtol=1e-14)
        assert np.allclose(width, [w for _, w in expected], rtol=1e-7)


def test_without_updates_there_is_nothing():
    one = np.ones((1, 1))
    for values, after, expected in ((one, 0, [1.0, None]), (one, 1, [None, None])):
        assert [None if np.isnan(x[0]) else x[0] for x in added(values, after)] == expected


def test_intervals_of_independent_values_hold_95_percent():
    values = np.random.default_rng(2).normal(size=(1000, 4000))
    mean, width = added(values)
    assert (np.abs(mean) <= width).mean() == pytest.approx(0.95, abs=0.011)


def job_of(learning=None, **sections):
    section = {"learning_rate": VISITS, "intervals_after": 2, **(learning or {})}
    return make_job.make(GARNET, learning=section, exploration={"epsilon": 1.0}, **sections)


def learner_of(job):
    return LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)


def contents(learner):
    return [array.tolist() for piece in learner.shard.pieces_with_masks(100) for array in piece]


@pytest.mark.parametrize("centring", [0.0, 0.5])
def test_a_learner_averages_what_its_values_were(centring):
    """One environment changes one value in a tick: which, its count says. Of centred ones, Q."""
    learner, history = learner_of(job_of({"centring": centring})), {}
    learner.begin()
    counts = {}
    for _ in range(900):
        learner.advance()
        for hashes, q, visits in learner.shard.pieces(100):
            for hash_, row, n in zip(hashes.tolist(), q, visits, strict=True):
                for action in np.flatnonzero(n > counts.get(hash_, 0)).tolist():
                    value = row[action] + learner.centre.numbers[RATE] / (1 - 0.9)
                    history.setdefault((hash_, action), []).append(value)
                counts[hash_] = n.copy()
    ((hashes, q, _, _),) = learner.shard.pieces_with_masks(100)
    mean, width = estimates(q[:, 3:].reshape(-1, 3, SUMS))
    seen = 0
    for i, hash_ in enumerate(hashes.tolist()):
        for action in range(3):
            values = history.get((hash_, action), [])[2:]
            if len(values) < 2:
                assert np.isnan(width[i, action])
                continue
            expected = by_definition(np.array(values))
            assert (mean[i, action], width[i, action]) == pytest.approx(expected, rel=1e-9)
            seen += 1
    assert seen > 100


@pytest.fixture
def saved(tmp_path):
    learner = learner_of(job_of())
    learner.begin()
    for _ in range(600):
        learner.advance()
    return learner, saving.save(learner, tmp_path, "direct", keep=1)[0]


def test_they_change_nothing_that_is_learned(saved):
    plain = learner_of(job_of({"intervals_after": None}))
    plain.begin()
    for _ in range(600):
        plain.advance()
    assert saved[0].digest() == plain.digest()


def test_a_resumed_run_goes_on_with_them_and_another_begins_anew(saved):
    learner, path = saved
    header, digest = verify(path)
    assert (header.format, header.intervals, digest) == (6, True, learner.digest())
    resumed, other = learner_of(job_of()), learner_of(job_of())
    restore.load_run(resumed, path)
    assert contents(resumed) == contents(learner)
    for one in (learner, resumed):
        for _ in range(50):
            one.advance()
    assert contents(resumed) == contents(learner)
    restore.load_table(other, path)
    ((_, q, _, _),) = other.shard.pieces_with_masks(100)
    assert (q[:, 3:] == first_sums(len(q), 3, 2)).all()


def test_what_commands_show(saved):
    learner, path = saved
    ((hashes, q, _, _),) = learner.shard.pieces_with_masks(100)
    mean, width = estimates(q[:, 3:].reshape(-1, 3, SUMS))
    with Table(path) as table:
        rows = table.arrays()
        assert np.array_equal(rows.mean, mean, equal_nan=True)
        assert np.array_equal(rows.half_width, width, equal_nan=True)
        at = int(np.argmax((q[:, 3:].reshape(-1, 3, SUMS)[:, :, COUNT] >= 2).all(axis=1)))
        found = inspect.row_of(table, int(keys_of(hashes[at : at + 1])[0]))
    assert (found["mean"], found["half_width"]) == (mean[at].tolist(), width[at].tolist())
    assert f"{mean[at][0]:.4g}±{width[at][0]:.2g}" in row_text(found)
    summary = inspect.inspect(path)
    greedy = width[np.arange(len(q)), q[:, :3].argmax(axis=1)]
    assert summary["half_widths"]["100%"] == np.nanmax(greedy)
    assert "95 % intervals" in summary_text(summary)
    json.dumps(summary, allow_nan=False)


def test_a_state_that_was_never_updated_has_none(tmp_path):
    learner = learner_of(job_of())
    learner.begin()
    path = saving.save(learner, tmp_path, "direct", keep=1)[0]
    with Table(path) as table:
        assert table.arrays().mean.shape == (0, 3)
        assert inspect.row_of(table, 7)["half_width"] == [None] * 3
    assert read_header(path).intervals


def test_the_estimate_counts_them():
    with_, without = (estimate(job_of({"intervals_after": n}), 10**6, 1, 1) for n in (0, None))
    # Four sums of eight bytes for each of three values.
    assert with_["checkpoint_bytes"] - without["checkpoint_bytes"] == 96 * 10**6
    assert with_["state_bytes"] >= without["state_bytes"] + 96


@pytest.mark.parametrize(
    ("learning", "mode", "words"),
    [
        ({"rule": "double_q"}, {}, "rules of one table"),
        ({"dtype": "float32"}, {}, "dtype = 'float64'"),
        ({}, {"kind": "asynchronous"}, "lockstep mode"),
    ],
)
def test_where_they_are_not_kept_they_are_refused(learning, mode, words):
    job = job_of(learning, mode=mode)
    with pytest.raises(JobError, match=f"intervals_after is for .*{words}"):
        Algorithm.of(job, resolve(job.environment))
