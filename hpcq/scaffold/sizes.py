"""How many environments, how long between reset ticks, and how many steps a first job has.

All three follow from the measured speed: a run of a slow environment must end in minutes, too, and
must not wait for long until it can be saved.
"""

import math
from dataclasses import dataclass

import numpy as np

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.scaffold.profile import EnvironmentProfile

MINUTES = 2.0
COMPILED_RATE = 5e6
# Between two reset ticks, if episodes are short enough.
RESET_SECONDS = 30.0
RESET_TICKS = 1000
LEAST_TICKS = 50
LEAST_COUNT, MOST_COUNT = 2, 64
COMPILED_COUNT = 1024
LEAST_STEPS = 10_000


@dataclass(frozen=True)
class Sizes:
    """The sizes of a first job."""

    count: int
    """environments"""
    reset_every: int | None
    """ticks between reset ticks; None: the environment's state can be saved"""
    steps: int
    rate: float
    """steps per second on two ranks, roughly"""

    @property
    def reset_seconds(self) -> float:
        """Seconds between two reset ticks."""
        return self.count * (self.reset_every or 0) / self.rate


def time_limit(profile: EnvironmentProfile) -> int | None:
    """Return the time limit: the environment's own, or one for episodes that do not end."""
    rollout = profile.rollout
    own = profile.environment.max_episode_steps or rollout.time_limit
    return own or (None if rollout.lengths else 1000)


def mean_length(profile: EnvironmentProfile) -> float:
    """Return the mean length of random episodes."""
    return float(np.mean(profile.rollout.lengths)) if profile.rollout.lengths else 1000.0


def sizes(profile: EnvironmentProfile, states: int, steps: int | None) -> Sizes:
    """Return the sizes of a job; those that the user has given stay.

    Parameters
    ----------
    states
        that the table may come to have.
    steps
        of the run, as given.
    """
    given = profile.section.model_fields_set
    rate = _rate(profile)
    wanted = steps or _steps(profile, states, rate)
    count = profile.section.count if "count" in given else None
    if isinstance(profile.environment, CompiledEnvironment):
        return Sizes(count or COMPILED_COUNT, None, wanted, rate)
    limit = time_limit(profile)
    ticks = max(RESET_TICKS, 4 * (limit or 0))
    # Steps that may lie between two reset ticks.
    most = min(RESET_SECONDS * rate, wanted / 2)
    if count is None:
        fitting = max(LEAST_COUNT, min(MOST_COUNT, most / ticks))
        count = 1 << math.floor(math.log2(fitting))
    # Whole episodes, or what is known of them.
    length = 2 * mean_length(profile) if profile.rollout.lengths else min(1000, limit or 1000)
    least = max(LEAST_TICKS, math.ceil(length))
    if "reset_every" in given:
        ticks = profile.section.reset_every
    elif count * ticks > most:
        ticks = _round(min(ticks, max(least, most / count)))
    # A run that ends at a reset tick can be extended as if it had not ended.
    if steps is None and wanted % (count * ticks) > wanted / 5:
        wanted = math.ceil(wanted / (count * ticks)) * count * ticks
    return Sizes(count, ticks, wanted, rate)


def _round(value: float) -> int:
    """Return a number of two digits, not smaller."""
    unit = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit


def _rate(profile: EnvironmentProfile) -> float:
    """Return steps per second on two ranks, roughly."""
    if isinstance(profile.environment, CompiledEnvironment):
        return 2 * COMPILED_RATE
    return 2 * 0.7 * profile.rollout.steps / max(profile.rollout.seconds, 1e-9)


def _steps(profile: EnvironmentProfile, states: int, rate: float) -> int:
    """Return a round number of steps: enough for the states, but of a few minutes at most."""
    pairs = states * profile.environment.actions
    wanted = min(max(200 * pairs, 200_000), 50_000_000, rate * 60 * MINUTES)
    # A slow environment: a beginning.
    wanted = max(wanted, min(LEAST_STEPS, rate * 60 * 5 * MINUTES), 1)
    scale = 10 ** math.floor(math.log10(wanted))
    return int(next(m for m in (5, 2, 1) if m * scale <= wanted) * scale)
