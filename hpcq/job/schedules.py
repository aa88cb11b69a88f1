"""Numbers that change while a run goes on: learning rate, epsilon, temperature, confidence.

All count environment steps of the whole job, never ticks or ranks. A plain number in the job
file is a constant schedule.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1)]


class _Schedule(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class Constant(_Schedule):
    """The same `value` at every step."""

    schedule: Literal["constant"] = "constant"
    value: Fraction
    """at every step"""

    def at(self, step: int) -> float:
        """Return the value at an environment step."""
        return self.value


class Linear(_Schedule):
    """From `start` to `end` in equal parts over `steps` steps, then `end`."""

    schedule: Literal["linear"]
    start: Fraction
    """at step 0"""
    end: Fraction
    """from step `steps` on"""
    steps: Steps
    """environment steps from `start` to `end`"""

    def at(self, step: int) -> float:
        """Return the value at an environment step."""
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


class Exponential(_Schedule):
    """From `start` to `end` (both above 0) by equal factors over `steps` steps, then `end`."""

    schedule: Literal["exponential"]
    start: Annotated[float, Field(gt=0, le=1)]
    """at step 0"""
    end: Annotated[float, Field(gt=0, le=1)]
    """from step `steps` on"""
    steps: Steps
    """environment steps from `start` to `end`"""

    def at(self, step: int) -> float:
        """Return the value at an environment step."""
        return self.start * math.pow(self.end / self.start, min(1.0, step / self.steps))


class Visits(_Schedule):
    """start / (1 + N(s, a)) ** `exponent`, at least `end`; N the earlier updates of this (s, a).

    Even-Dar and Mansour, "Learning rates for Q-learning", JMLR 5, 2003: with an exponent in
    (0.5, 1] Q-learning converges to Q*, fastest near 0.77. An `end` above 0 gives that up, for a
    table that follows what changes.
    """

    schedule: Literal["visits"]
    exponent: Annotated[float, Field(gt=0.5, le=1)]
    """how fast the rate falls"""
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    """rate of a first update"""
    end: Fraction = 0.0
    """the least rate"""

    def at(self, step: int) -> float:
        """Return the rate of a first update; it is the same at every step."""
        return self.start


class ConstantNumber(Constant):
    """The same `value` (above 0) at every step."""

    value: Positive
    """at every step"""


class LinearNumber(Linear):
    """From `start` to `end` (both above 0) in equal parts over `steps` steps, then `end`."""

    start: Positive
    """at step 0"""
    end: Positive
    """from step `steps` on"""


class ExponentialNumber(Exponential):
    """From `start` to `end` (both above 0) by equal factors over `steps` steps, then `end`."""

    start: Positive
    """at step 0"""
    end: Positive
    """from step `steps` on"""


def _constant(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"schedule": "constant", "value": value}
    return value


Schedule = Annotated[
    Constant | Linear | Exponential,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Fraction | Constant | Linear | Exponential),
]
PositiveSchedule = Annotated[
    ConstantNumber | LinearNumber | ExponentialNumber,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Positive | ConstantNumber | LinearNumber | ExponentialNumber),
]
LearningRate = Annotated[
    Constant | Linear | Exponential | Visits,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Fraction | Constant | Linear | Exponential | Visits),
]
