"""Any rule, policy, schedule, masks and steps: one table on any number of ranks, and after a stop.

Jobs are drawn at random, the same ones on all ranks and in every run of the test.
"""

import make_job
import pytest
import rules
from compiled_once import compile_once
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from hpcq.checkpoint import restore, saving
from hpcq.envs.resolve import resolve
from hpcq.job.sections import ReplaySection
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.rule import find

pytestmark = pytest.mark.mpi

RATES = st.sampled_from(
    [
        0.5,
        {"schedule": "linear", "start": 0.9, "end": 0.0, "steps": 300},
        {"schedule": "exponential", "start": 0.9, "end": 0.01, "steps": 300},
        {"schedule": "polynomial", "start": 0.9, "steps": 60, "exponent": 0.8},
        {"schedule": "visits", "exponent": 0.8},
        {"schedule": "visits", "exponent": 1.0, "start": 0.9, "end": 0.1},
    ]
)
NUMBERS = st.sampled_from(
    [
        0.3,
        {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": 300},
        {"schedule": "exponential", "start": 1.0, "end": 0.1, "steps": 300},
        {"schedule": "polynomial", "start": 1.0, "end": 0.1, "steps": 60, "exponent": 0.8},
    ]
)
EXPLORATION = st.one_of(
    st.builds(lambda n: {"epsilon": n}, NUMBERS),
    st.builds(lambda n: {"policy": "boltzmann", "temperature": n}, NUMBERS),
    st.builds(lambda n: {"policy": "ucb", "confidence": n}, NUMBERS),
    st.sampled_from([{"policy": "greedy"}, {"policy": "uniform"}]),
)
RULES = st.sampled_from(rules.ALONE)
GAME = {"id": "hpcq/TicTacToe-v0"}
# Compiled, with a time limit; masks by the rules of a game; Python; Python's masks.
PROBLEMS = st.sampled_from(
    [
        (make_job.GARNET | {"max_episode_steps": 7}, RULES),
        (GAME | {"kwargs": {"opponent": "random"}, "action_mask": True}, RULES),
        (GAME | {"action_mask": True}, st.just("negamax")),
        (make_job.CORRIDOR | {"reset_every": 20}, RULES),
        ({"id": "problems:Masked", "action_mask": True, "reset_every": 20}, RULES),
    ]
)


EXPONENTS = st.sampled_from(
    [0.4, {"schedule": "linear", "start": 0.0, "end": 1.0, "steps": 300}]
)  # fmt: skip
SIZES = {"ratio": st.sampled_from([1, 3]), "capacity": st.sampled_from([24, 100])}
REPLAY = st.one_of(
    st.just(ReplaySection()),
    st.builds(ReplaySection, **SIZES, learning_starts=st.sampled_from([1, 3])),
    st.builds(
        ReplaySection,
        **SIZES,
        sampling=st.just("prioritised"),
        priority_exponent=st.sampled_from([0.6, 1.0]),
        importance_exponent=EXPONENTS,
    ),
)


@st.composite
def jobs(draw):
    """Draw a small job."""
    environment, fitting = draw(PROBLEMS)
    replay = draw(REPLAY)
    steps = 1 if replay.ratio else draw(st.sampled_from([1, 2, 5]))
    decay = draw(st.sampled_from([1.0, 0.7])) if steps > 1 else 1.0
    rule = draw(fitting)
    # What terminates has no mean reward.
    goes_on = environment["id"] == make_job.GARNET["id"]
    dtype = draw(st.sampled_from(["float32", "float64"]))
    one_table = find(rule).tables == 1 and dtype == "float64"
    return make_job.make(
        environment | {"count": draw(st.sampled_from([3, 8]))},
        learning={
            **rules.learning(rule),
            "n_step": steps,
            "trace_decay": decay if find(rule).supports_lambda else 1.0,
            "learning_rate": draw(RATES),
            "dtype": dtype,
            "intervals_after": draw(st.sampled_from([None, 0, 2])) if one_table else None,
            "q_init": draw(st.sampled_from([0.0, 2.0])),
            "centring": draw(st.sampled_from([0.0, 0.5, True])) if goes_on else 0.0,
        },
        exploration=draw(EXPLORATION),
        run={"seed": draw(st.integers(0, 9))},
    ).model_copy(update={"replay": replay})


def advanced(job, environment, comm, ticks):
    learner = LockstepLearner(job, environment, comm)
    learner.begin()
    for _ in range(ticks):
        learner.advance()
    return learner


def sums(comm, learner):
    """Return what stands behind the values of all ranks' rows: of averages and intervals."""
    columns = learner.shard.columns
    pieces = [q[:, columns:] for _, q, *_ in learner.shard.pieces_with_masks(1 << 16)]
    return [row for rows in comm.allgather(pieces) for piece in rows for row in piece.tolist()]


def check(comm, folder, job):
    """Hold one table on all ranks and on one, also after a stop."""
    environment = resolve(job.environment)
    compile_once(job, environment)
    learner = advanced(job, environment, comm, 40)
    learner.quiesce()
    path, _ = saving.save(learner, folder, "direct", keep=1)
    for _ in range(40):
        learner.advance()
    digest, averages = learner.digest(), sums(comm, learner)
    learner.close()
    alone = advanced(job, environment, MPI.COMM_SELF, 80)
    assert (alone.digest(), sums(MPI.COMM_SELF, alone)) == (digest, averages)
    alone.close()
    # Saved by all ranks, resumed by each on its own.
    resumed = LockstepLearner(job, environment, MPI.COMM_SELF)
    restore.load_run(resumed, path)
    for _ in range(40):
        resumed.advance()
    assert (resumed.digest(), sums(MPI.COMM_SELF, resumed)) == (digest, averages)
    resumed.close()
    comm.Barrier()


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(jobs())
def test_one_table_on_any_number_of_ranks_and_after_a_stop(comm, folder, job):
    check(comm, folder, job)


@pytest.mark.parametrize("rule", rules.ALONE)
def test_every_rule_learns_one_table_on_any_number_of_ranks(rule, comm, folder):
    environment = {**make_job.GARNET, "max_episode_steps": 7}
    check(comm, folder, make_job.make(environment, learning=rules.learning(rule, n_step=2)))
