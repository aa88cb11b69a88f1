"""The value of a schedule, in one place: plain Python here, compiled within a tick."""

import math
from typing import NamedTuple

CONSTANT, LINEAR, EXPONENTIAL, POLYNOMIAL, GEOMETRIC = range(5)


class Terms(NamedTuple):
    """A schedule as numbers; what its form does not use is 0."""

    form: int
    start: float
    end: float = 0.0
    steps: int = 1
    exponent: float = 0.0


def value_at(terms: Terms, step: float) -> float:
    """Return the value after so many environment steps; `schedules` says what the forms mean.

    GEOMETRIC counts episodes.
    """
    part = step / terms.steps
    if terms.form == LINEAR:
        return terms.start + (terms.end - terms.start) * min(1.0, part)
    if terms.form == EXPONENTIAL:
        return terms.start * math.pow(terms.end / terms.start, min(1.0, part))
    if terms.form == POLYNOMIAL:
        return max(terms.end, terms.start * math.pow(1.0 + part, -terms.exponent))
    if terms.form == GEOMETRIC:
        return max(terms.end, terms.start * math.pow(terms.exponent, step))
    return terms.start
