"""VectorEnvs: exactly the true transitions are learned, in every autoreset mode."""

from collections import Counter

import make_job
import numpy as np
import problems
import pytest
from mpi4py import MPI

from hpcq.collectors.batch import EnvBatch, Outcome
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, EnvironmentFault, JobError
from hpcq.hashing import unmix64
from hpcq.learning.lockstep import LockstepLearner

MODES = ["NEXT_STEP", "SAME_STEP", "DISABLED"]


def vector_job(mode="NEXT_STEP", count=8, vector=4, reset_every=1000, how=None, **learning):
    name, kwargs = ("BrokenVector", {"how": how, "after": 3}) if how else ("ScriptedVector", {})
    return make_job.make(
        {
            "id": f"problems:{name}",
            "kwargs": {"mode": mode, **kwargs},
            "count": count,
            "vector": vector,
            "reset_every": reset_every,
        },
        learning=learning,
    )


def begun(job):
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
    problems.ScriptedVector.log.clear()
    learner.begin()
    return learner


def keys(hashes):
    return unmix64.py_func(hashes).tolist()


@pytest.mark.parametrize("reset_every", [1000, 7, 1])
@pytest.mark.parametrize("mode", MODES)
def test_the_learned_transitions_are_the_scripted_ones(mode, reset_every):
    learner = begun(vector_job(mode, reset_every=reset_every))
    log = problems.ScriptedVector.log
    learned, truth = Counter(), Counter()
    step, seen = learner.collector.step, []

    def noted_step(tick):
        step(tick)
        seen.append(EnvBatch(*(column.copy() for column in learner.collector.batch)))

    learner.collector.step = noted_step
    for _ in range(60):
        before = len(log)
        learner.advance()
        batch = seen[-1]
        quiet = learner.tick % reset_every == 0
        for s, a, r, s2, terminated, truncated in log[before:]:
            cut = not terminated and (truncated or quiet)
            truth[s, a, r, None if terminated else s2, terminated, cut] += 1
        # What a tick learns from: where it bootstraps follows from the outcome alone.
        for outcome, action, reward, s, final, following in zip(
            batch.outcome,
            batch.action,
            batch.reward,
            *(keys(column) for column in (batch.hash, batch.final_hash, batch.next_hash)),
            strict=True,
        ):
            if outcome != Outcome.RESET:
                terminated = bool(outcome == Outcome.TERMINATED)
                cut = bool(outcome == Outcome.TRUNCATED)
                to = None if terminated else final if cut else following
                learned[s, action + 1, reward, to, terminated, cut] += 1
        # And what the next tick will send is just that.
        after = learner.collector.batch
        assert (after.update_pending == (batch.outcome != Outcome.RESET)).all()
        sent = after.update_pending
        assert (after.update_hash == batch.hash)[sent].all()
    learner.close()
    assert learned == truth
    assert len(log) == 60 * 8 if mode != "NEXT_STEP" or reset_every == 1 else len(log) < 60 * 8


@pytest.mark.parametrize("mode", MODES)
def test_the_table_is_the_scripts(mode):
    """Every state is seen once: with rate 1 its value is its one target, by hand from the log."""
    job = vector_job(mode, gamma=0.5, learning_rate=1.0, q_init=100.0)
    learner = begun(job)
    for _ in range(41):
        learner.advance()
    # The last tick's updates are still to be sent.
    log = problems.ScriptedVector.log
    batch = learner.collector.batch
    pending = set(keys(batch.update_hash[batch.update_pending]))
    expected, values = {}, {}
    for s, a, r, s2, terminated, _ in log:
        # Fresh states are still worth 100 when they are bootstrapped from.
        expected[s] = (a - 1, r if terminated else r + 0.5 * values.get(s2, 100.0))
    found = {}
    for hashes, q, _ in learner.shard.pieces(10_000):
        for key, row in zip(keys(hashes), q, strict=True):
            (action,) = np.flatnonzero(row != 100.0)
            found[key] = (action, row[action])
    assert found == {s: value for s, value in expected.items() if s not in pending}
    learner.close()


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_counted_and_measured(mode):
    learner = begun(vector_job(mode, count=4))
    for _ in range(100):
        learner.advance()
    ends = [entry for entry in problems.ScriptedVector.log if entry[4] or entry[5]]
    episodes, returns, lengths = learner.collector.episode_stats
    assert episodes == len(ends) == learner.collector.batch.episodes.sum()
    rewards = sum(entry[2] for entry in problems.ScriptedVector.log)
    unfinished = learner.collector.batch.episode_return.sum()
    assert returns == pytest.approx(rewards - unfinished)
    steps = len(problems.ScriptedVector.log)
    assert lengths == steps - learner.collector.batch.elapsed.sum()


LIES = [(said, true) for said in MODES for true in MODES if said != true]


@pytest.mark.parametrize(("said", "true"), LIES)
def test_a_vector_env_that_lies_about_its_mode(said, true):
    job = vector_job(said)
    environment = job.environment.model_copy(update={"kwargs": {"mode": said, "lie": true}})
    learner = begun(job.model_copy(update={"environment": environment}))
    pattern = (
        r"^environments? \d+( ... \d+)? \(problems:ScriptedVector\), tick \d+, episodes? \d+"
        r".*, actions? .*(metadata\['autoreset_mode'\] is " + said + ", but|raised)"
    )
    with pytest.raises(EnvironmentFault, match=pattern):  # noqa: PT012
        for _ in range(30):
            learner.advance()
    learner.close()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", r"environments 0 ... 3 .*tick 3, episodes 0 ... 1, actions .*: the user's bug"),
        ("short", r"environments 0 ... 3 .*tick 3.*actions.* no batch of 4 observations"),
        ("rewards", r"environments 0 ... 3 .*tick 3.*actions.*rewards are .*expected 4 of them"),
        ("scalar", r"terminated are False, expected 4 of them"),
        ("nan", r"environment 3 .*tick 3, episode 0, action \d: step: reward nan"),
        ("outside", r"environment 3 .*tick 3, episode 0, action \d: step: observation -1 is not"),
        ("old", r"a tuple of 4, expected \(observations, rewards, terminations"),
        ("final", r"environment 0 .*tick 3, episode 0, action \d: final_obs: observation -1 is"),
        ("reset", r"reset: returned ndarray, expected \(observations, infos\)"),
        ("mode", r"make: metadata\['autoreset_mode'\] is 'none', expected a gymnasium"),
    ],
)
def test_a_vector_env_that_breaks_the_contract(how, message):
    job = vector_job("SAME_STEP" if how == "final" else "NEXT_STEP", how=how)
    with pytest.raises(EnvironmentFault, match="(?s)" + message):  # noqa: PT012
        learner = begun(job)
        for _ in range(9):
            learner.advance()


def test_sizes_that_do_not_fit():
    with pytest.raises(JobError, match="count = 9, expected a multiple of environment.vector = 4"):
        resolve(vector_job(count=9).environment)


def test_restore_restarts_the_units(monkeypatch):
    learner = begun(vector_job(reset_every=5))
    for _ in range(5):
        learner.advance()
    again = LockstepLearner(learner.job, learner.environment, MPI.COMM_SELF)
    for mine, saved in zip(again.collector.batch, learner.collector.batch, strict=True):
        mine[:] = saved
    again.collector.restore(5)
    again.collector.batch.hash[5] += np.uint64(1)
    with pytest.raises(CheckpointError, match="environment 5 .*does not restart"):
        again.collector.restore(5)
