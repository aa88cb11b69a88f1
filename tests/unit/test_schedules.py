import make_job
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from pydantic import TypeAdapter, ValidationError

from hpcq.envs.resolve import resolve
from hpcq.hashing import hashes_of
from hpcq.jit.compiler import kernel
from hpcq.job.scheduled import CONSTANT, EXPONENTIAL, LINEAR, POLYNOMIAL, Terms, value_at
from hpcq.job.schedules import LearningRate, PositiveSchedule, Schedule
from hpcq.learning.exact import value_iteration
from hpcq.learning.lockstep import LockstepLearner

compiled_value_at = kernel(value_at)


schedule = TypeAdapter(Schedule).validate_python


def test_a_number_is_constant():
    assert [schedule(0.3).at(step) for step in (0, 10**12)] == [0.3, 0.3]


def test_linear_worked_by_hand():
    found = schedule({"schedule": "linear", "start": 1.0, "end": 0.2, "steps": 100})
    assert [found.at(step) for step in (0, 25, 50, 100, 10**9)] == pytest.approx(
        [1.0, 0.8, 0.6, 0.2, 0.2]
    )


def test_exponential_worked_by_hand():
    found = schedule({"schedule": "exponential", "start": 1.0, "end": 0.01, "steps": 100})
    assert [found.at(step) for step in (0, 50, 75, 100, 10**9)] == pytest.approx(
        [1.0, 0.1, 10**-1.5, 0.01, 0.01]
    )


def test_polynomial_worked_by_hand():
    keys = {"schedule": "polynomial", "start": 0.8, "steps": 100, "exponent": 0.5}
    found = schedule(keys)
    # 1 + step / 100 is 1, 4, 16: the roots are 1, 2, 4.
    assert [found.at(step) for step in (0, 300, 1500)] == pytest.approx([0.8, 0.4, 0.2])
    assert 0 < found.at(2**62) < 1e-8
    assert schedule({**keys, "end": 0.3}).at(1500) == 0.3


def test_numbers_that_may_exceed_1_stay_above_0():
    number = TypeAdapter(PositiveSchedule).validate_python
    keys = {"schedule": "polynomial", "start": 6.0, "steps": 10, "exponent": 1.0}
    assert number({**keys, "end": 0.5}).at(20) == 2.0
    with pytest.raises(ValidationError):
        number(keys)


def test_visits_are_for_learning_rates_only():
    visits = {"schedule": "visits", "exponent": 0.8}
    assert TypeAdapter(LearningRate).validate_python(visits).exponent == 0.8
    with pytest.raises(ValidationError):
        schedule(visits)
    with pytest.raises(ValidationError):
        TypeAdapter(LearningRate).validate_python({"schedule": "visits", "exponent": 0.5})


@given(
    st.sampled_from([CONSTANT, LINEAR, EXPONENTIAL, POLYNOMIAL]),
    *[st.floats(1e-9, 1.0)] * 2,
    st.integers(1, 10**12),
    st.floats(0.01, 4.0),
    st.integers(0, 2**53),
)
def test_a_compiled_schedule_has_the_same_bits(form, start, end, steps, exponent, step):
    terms = Terms(form, start, end, steps, exponent)
    assert compiled_value_at(terms, step) == value_at(terms, step)


def test_near_gamma_1_the_horizon_rate_comes_closer_than_visits():
    """Garnet, uniform behaviour: the largest error after the same steps."""
    environment = {
        "id": "hpcq/Garnet-v0",
        "kwargs": {"states": 20, "actions": 2, "seed": 5},
        "count": 256,
    }
    errors = {}
    for name, rate in (
        ("horizon", {"schedule": "horizon"}),
        ("visits", {"schedule": "visits", "exponent": 0.77}),
    ):
        job = make_job.make(
            environment,
            learning={"gamma": 0.99, "learning_rate": rate},
            exploration={"policy": "uniform"},
        )
        learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
        truth = value_iteration(learner.environment.model, 0.99)
        learner.begin()
        while learner.tick < 5000:
            learner.advance(last=5000)
        keys = np.arange(20, dtype=np.uint64)
        q = np.array([learner.shard.row(int(hash_)) for hash_ in hashes_of(keys)])
        errors[name] = np.abs(q - truth).max() / np.abs(truth).max()
        learner.close()
    assert errors["horizon"] < 0.05
    assert errors["visits"] > 5 * errors["horizon"]
