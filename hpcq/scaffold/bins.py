"""How floats are discretised: bins for those of observations, levels for those of actions.

Both are keys of a job file, each with a value and a reason: (key, value, reason).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.scaffold.profile import EnvironmentProfile

# All bins together make about this many states; each float has a number of bins in this range.
STATES = 100_000
MIN_BINS, MAX_BINS = 2, 48
# With more floats than this, two bins each already make more states than a run visits.
MAX_FLOATS = 24
# A bound beyond this does not tell where the observations are.
MAX_BOUND = 1e4
# Bins that hold so many different observations each, on average, hide what they differ in.
SPREAD = 50
# States that are too few to learn from.
FEW = 20


def bin_keys(profile: EnvironmentProfile) -> list[tuple[str, Any, str]]:
    """Return keys of [environment.discretise]; none for an observation without floats.

    Raises
    ------
    JobError
        if there are too many floats.
    """
    if not profile.floats or profile.section.codec == "digest":
        return []
    count = len(profile.floats)
    if count > MAX_FLOATS or not profile.exact:
        what = f"{count} floats" if profile.exact else "floats beside what cannot be numbered"
        raise JobError(
            f"{profile.section.id}: its observations hold {what}, too much for a table; reduce "
            "them: --set 'environment.observe=[0, 1]' picks parts, and a Gymnasium wrapper that "
            "computes a few numbers is given by "
            "--set 'environment.wrappers=[{entry=\"file.py:Name\"}]'"
        )
    bins = int(min(MAX_BINS, max(MIN_BINS, STATES ** (1 / count))))
    sampled = np.array(profile.rollout.floats)
    sampled = sampled[np.isfinite(sampled).all(axis=1)]
    if not len(sampled):
        raise JobError(f"{profile.section.id}: all its observations hold an infinite float or NaN")
    ranges, guessed = _ranges(profile, sampled)
    met = _count_bins(sampled, ranges, bins)
    why_ranges = ""
    if guessed:
        why_ranges = (
            f"their ranges; {', '.join(guessed)} have no useful bounds: what random steps reached, "
            "and half as much again; a value outside counts as the outermost bin"
        )
    if SPREAD * met < min(len(profile.rollout.states), bins**count):
        # Bounds far from where the values are: all would look alike.
        narrow = [_widened(float(column.min()), float(column.max())) for column in sampled.T]
        narrow_met = _count_bins(sampled, narrow, bins)
        if narrow_met > met:
            ranges, met = narrow, narrow_met
            why_ranges = (
                "the space's bounds lie far from what random steps reached: these are what they "
                "reached, and half as much again; widen them to where a good policy comes"
            )
    names = ", ".join(name for name, _, _ in profile.floats)
    why = f"equal parts of each float ({names}): {bins**count:,} states; "
    why += _recurrence(met, sampled)
    keys: list[tuple[str, Any, str]] = [("bins", [bins] * count, why)]
    if why_ranges:
        keys += [
            ("low", [low for low, _ in ranges], why_ranges),
            ("high", [high for _, high in ranges], ""),
        ]
    return keys


def _ranges(
    profile: EnvironmentProfile, sampled: NDArray[np.float64]
) -> tuple[list[tuple[float, float]], list[str]]:
    """Return the range of every float, and the names of those without useful bounds."""
    ranges, guessed = [], []
    for column, (name, low, high) in zip(sampled.T, profile.floats, strict=True):
        if low is None or high is None or max(-low, high) > MAX_BOUND:
            ranges.append(_widened(float(column.min()), float(column.max())))
            guessed.append(name)
        else:
            ranges.append((_float32(low), _float32(high)))
    return ranges, guessed


def _count_bins(sampled: NDArray[np.float64], ranges: list[tuple[float, float]], bins: int) -> int:
    """Return how many different states equal parts of these ranges make of what was sampled."""
    low, high = np.array(ranges).T
    width = np.where(high > low, high - low, 1.0)
    places = np.clip(np.floor((sampled - low) / width * bins), 0, bins - 1)
    return len(np.unique(places, axis=0))


def _recurrence(met: int, sampled: NDArray[np.float64]) -> str:
    """Return what the random steps say of so many bins."""
    text = f"{len(sampled):,} random observations fell into {met:,} of them"
    if met < FEW:
        return f"{text}: very few; give more bins, or edges, to the floats that matter"
    if 2 * met > len(sampled):
        return f"{text}: they hardly recur; fewer bins, or 1 for what does not matter"
    return f"{text}; more bins for the floats that matter"


def _float32(value: float) -> float:
    """Return a float32 without the digits that it does not have."""
    return float(f"{value:.7g}")


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return a range half as wide again, with ends of two digits."""
    margin = (high - low) / 4 or max(abs(low), 1.0) / 4
    unit = 10.0 ** (math.floor(math.log10((high - low) + 2 * margin)) - 1)
    ends = math.floor((low - margin) / unit) * unit, math.ceil((high + margin) / unit) * unit
    return _float32(ends[0]), _float32(ends[1])


def level_keys(profile: EnvironmentProfile) -> list[tuple[str, Any, str]]:
    """Return keys of [environment.discretise_actions]; none for actions without floats."""
    if not profile.action_floats:
        return []
    count = len(profile.action_floats)
    levels = 5 if count == 1 else 3 if count <= 5 else 2
    why = f"equally spaced values for each float of an action: {levels**count:,} actions"
    keys: list[tuple[str, Any, str]] = [("levels", [levels] * count, why)]
    bounds = [(low, high) for _, low, high in profile.action_floats]
    if any(None in pair for pair in bounds):
        why = "no bounds of its own: guessed"
        keys += [
            ("low", [-1.0 if low is None else low for low, _ in bounds], why),
            ("high", [1.0 if high is None else high for _, high in bounds], ""),
        ]
    return keys
