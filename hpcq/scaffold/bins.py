"""How floats are discretised: bins for those of observations, levels for those of actions.

Both are keys of a job file, each with a value and a reason: (key, value, reason).
"""

import math
from typing import Any

import numpy as np

from hpcq.errors import JobError
from hpcq.scaffold.profile import EnvironmentProfile

# All bins together make about this many states; each float has a number of bins in this range.
STATES = 100_000
MIN_BINS, MAX_BINS = 2, 48
# With more floats than this, two bins each already make more states than a run visits.
MAX_FLOATS = 24
# A bound beyond this does not tell where the observations are.
MAX_BOUND = 1e4


def bin_keys(profile: EnvironmentProfile) -> list[tuple[str, Any, str]]:
    """Return keys of [environment.discretise]; none for an observation without floats.

    Raises
    ------
    JobError
        if there are too many floats.
    """
    if not profile.floats:
        return []
    count = len(profile.floats)
    if count > MAX_FLOATS or not profile.exact:
        what = f"{count} floats" if profile.exact else "floats beside what cannot be numbered"
        raise JobError(
            f"{profile.section.id}: its observations hold {what}, too much for a table; reduce "
            "the observation: a Gymnasium wrapper that picks or computes a few numbers, given by "
            "--set 'environment.wrappers=[{entry=\"file.py:Name\"}]'"
        )
    bins = int(min(MAX_BINS, max(MIN_BINS, STATES ** (1 / count))))
    sampled = np.array(profile.rollout.floats)
    names = ", ".join(name for name, _, _ in profile.floats)
    why = f"equal parts of each float ({names}): {bins**count:,} states; more of those that matter"
    keys: list[tuple[str, Any, str]] = [("bins", [bins] * count, why)]
    ranges, guessed = [], []
    for column, (name, low, high) in zip(sampled.T, profile.floats, strict=True):
        if low is None or high is None or max(-low, high) > MAX_BOUND:
            ranges.append(_widened(float(column.min()), float(column.max())))
            guessed.append(name)
        else:
            ranges.append((_float32(low), _float32(high)))
    if guessed:
        why = (
            f"their ranges; {', '.join(guessed)} have no useful bounds: what random steps reached, "
            "and half as much again; a value outside counts as the outermost bin"
        )
        keys += [
            ("low", [low for low, _ in ranges], why),
            ("high", [high for _, high in ranges], ""),
        ]
    return keys


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
