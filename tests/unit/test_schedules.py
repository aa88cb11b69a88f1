import pytest
from pydantic import TypeAdapter, ValidationError

from hpcq.job.schedules import LearningRate, Schedule

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


def test_visits_are_for_learning_rates_only():
    visits = {"schedule": "visits", "exponent": 0.8}
    assert TypeAdapter(LearningRate).validate_python(visits).exponent == 0.8
    with pytest.raises(ValidationError):
        schedule(visits)
    with pytest.raises(ValidationError):
        TypeAdapter(LearningRate).validate_python({"schedule": "visits", "exponent": 0.5})
