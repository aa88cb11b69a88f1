"""Schedules by environment steps: learning rate, epsilon, temperature, confidence.

They count the steps of the whole job, never ticks or ranks. A plain number in the job file is a
constant schedule.
"""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hpcq.job.scheduled import (
    CONSTANT,
    EXPONENTIAL,
    GEOMETRIC,
    LINEAR,
    POLYNOMIAL,
    Terms,
    value_at,
)

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1)]


class Decay(NamedTuple):
    """A learning rate by updates: max(least, rate / (1 + slope N(s, a)) ** exponent).

    N counts earlier updates; an exponent of 0 means that they do not matter.
    """

    slope: float
    exponent: float
    least: float


class _Schedule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    counts_visits: ClassVar[bool] = False
    """whether it falls with the updates of a (state, action), not with steps"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers."""
        raise NotImplementedError

    def by_updates(self, gamma: float) -> Decay:
        """Return how it falls with the updates of a (state, action); by default it does not."""
        return Decay(0.0, 0.0, 0.0)

    def at(self, step: int) -> float:
        """Return the value at an environment step."""
        return value_at(self.terms, step)


class Constant(_Schedule):
    """The same `value` at every step."""

    schedule: Literal["constant"] = "constant"
    value: Fraction
    """at every step"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers."""
        return Terms(CONSTANT, self.value)


class Linear(_Schedule):
    """From `start` to `end` in equal parts over `steps` steps, then `end`."""

    schedule: Literal["linear"]
    start: Fraction
    """at step 0"""
    end: Fraction
    """from step `steps` on"""
    steps: Steps
    """environment steps from `start` to `end`"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers."""
        return Terms(LINEAR, self.start, self.end, self.steps)


class Exponential(_Schedule):
    """From `start` to `end` (both above 0) by equal factors over `steps` steps, then `end`."""

    schedule: Literal["exponential"]
    start: Annotated[float, Field(gt=0, le=1)]
    """at step 0"""
    end: Annotated[float, Field(gt=0, le=1)]
    """from step `steps` on"""
    steps: Steps
    """environment steps from `start` to `end`"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers."""
        return Terms(EXPONENTIAL, self.start, self.end, self.steps)


class Polynomial(_Schedule):
    """start / (1 + step / `steps`) ** `exponent`, at least `end`.

    Robbins and Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22,
    1951: with an exponent in (0.5, 1] and an `end` of 0, learning rates that let values converge.
    """

    schedule: Literal["polynomial"]
    start: Fraction
    """at step 0"""
    steps: Steps
    """environment steps in which it falls to 2 ** -exponent of `start`"""
    exponent: Annotated[float, Field(gt=0, le=4)]
    """how fast it falls"""
    end: Fraction = 0.0
    """the least value"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers."""
        return Terms(POLYNOMIAL, self.start, self.end, self.steps, self.exponent)


class Visits(_Schedule):
    """start / (1 + `slope` N(s, a)) ** `exponent`, at least `end`; N the earlier updates of (s, a).

    Even-Dar and Mansour, "Learning rates for Q-learning", JMLR 5, 2003: with an exponent in
    (0.5, 1] Q-learning converges to Q*, fastest near 0.77. An `end` above 0 gives that up, for a
    table that follows what changes.
    """

    schedule: Literal["visits"]
    exponent: Annotated[float, Field(gt=0.5, le=1)]
    """how fast the rate falls"""
    slope: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """smaller: it begins to fall later"""
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    """rate of a first update"""
    end: Fraction = 0.0
    """the least rate"""
    counts_visits: ClassVar[bool] = True

    @property
    def terms(self) -> Terms:
        """The rate of a first update, the same at every step."""
        return Terms(CONSTANT, self.start)

    def by_updates(self, gamma: float) -> Decay:
        """Return how it falls with the updates of a (state, action)."""
        return Decay(self.slope, self.exponent, self.end)


class Horizon(_Schedule):
    """start / (1 + `scale` (1 - gamma) N(s, a)); N the earlier updates of this (s, a).

    The rescaled linear rate of Li, Cai, Chen, Wei and Chi, "Is Q-learning minimax optimal? A tight
    sample complexity analysis", Operations Research 72, 2024 (arXiv 2102.06548): for gamma near 1,
    where a rate of 1 / N averages over updates from long before values had come near.
    """

    schedule: Literal["horizon"]
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """larger: it falls faster"""
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    """rate of a first update"""
    counts_visits: ClassVar[bool] = True

    @property
    def terms(self) -> Terms:
        """The rate of a first update, the same at every step."""
        return Terms(CONSTANT, self.start)

    def by_updates(self, gamma: float) -> Decay:
        """Return how it falls with the updates of a (state, action)."""
        return Decay(self.scale * (1.0 - gamma), 1.0, 0.0)


class Episodes(_Schedule):
    """start * `decay` ** E, at least `end`; E the episodes that this environment has ended.

    Each environment has an epsilon of its own: `environment.count` of them run at once, so all
    together end `environment.count` times as many episodes. Not for rules that bootstrap from the
    policy's mean.
    """

    schedule: Literal["episodes"]
    decay: Annotated[float, Field(gt=0, le=1)]
    """factor of one episode"""
    start: Fraction = 1.0
    """in the first episode"""
    end: Fraction = 0.0
    """the least value"""

    @property
    def terms(self) -> Terms:
        """The schedule as numbers; it counts episodes."""
        return Terms(GEOMETRIC, self.start, self.end, 1, self.decay)


# The same forms for values in another range: of parameters in the unit of rewards.


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


class PolynomialNumber(Polynomial):
    """start / (1 + step / `steps`) ** `exponent`, at least `end` (both above 0)."""

    start: Positive
    """at step 0"""
    end: Positive
    """the least value"""


def _constant(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"schedule": "constant", "value": value}
    return value


_Schedules = Constant | Linear | Exponential | Polynomial
_NumberSchedules = ConstantNumber | LinearNumber | ExponentialNumber | PolynomialNumber

Schedule = Annotated[
    _Schedules,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Fraction | _Schedules),
]
Epsilon = Annotated[
    _Schedules | Episodes,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Fraction | _Schedules | Episodes),
]
PositiveSchedule = Annotated[
    _NumberSchedules,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Positive | _NumberSchedules),
]
LearningRate = Annotated[
    _Schedules | Visits | Horizon,
    Field(discriminator="schedule"),
    BeforeValidator(_constant, Fraction | _Schedules | Visits | Horizon),
]
