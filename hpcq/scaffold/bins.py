"""How floats are cut for a table: bins for those of observations, levels for those of actions."""

import math

import numpy as np

from hpcq.errors import JobError
from hpcq.scaffold.profile import Look
from hpcq.scaffold.suggestion import Choice

# Bins together make at most about so many states, and each float has at most and at least so many.
STATES = 100_000
MOST_BINS, LEAST_BINS = 48, 2
# More floats than this, and even two bins for each are more states than anybody visits.
MOST_FLOATS = 24
# Ends further away than this say nothing about where an environment is.
FAR = 1e4


def bins_of(look: Look) -> list[Choice]:
    """Return bins for the floats of an observation, and the range of each.

    Raises
    ------
    JobError
        if these are too many.
    """
    if not look.floats:
        return []
    count = len(look.floats)
    if count > MOST_FLOATS or not look.exact:
        what = f"{count} floats" if look.exact else "floats beside what cannot be numbered"
        raise JobError(
            f"{look.section.id}: its observations hold {what}, too much for a table; show "
            "the agent less: a Gymnasium wrapper that picks or computes a few numbers, given by "
            "--set 'environment.wrappers=[{entry=\"file.py:Name\"}]'"
        )
    bins = int(min(MOST_BINS, max(LEAST_BINS, STATES ** (1 / count))))
    seen = np.array(look.walk.floats)
    names = ", ".join(name for name, _, _ in look.floats)
    why = f"equal parts of each float ({names}): {bins**count:,} states; more of those that matter"
    found = [Choice("environment.discretise", "bins", [bins] * count, why)]
    ends, guessed = [], []
    for column, (name, low, high) in zip(seen.T, look.floats, strict=True):
        if low is None or high is None or max(-low, high) > FAR:
            ends.append(_around(float(column.min()), float(column.max())))
            guessed.append(name)
        else:
            ends.append((_short(low), _short(high)))
    if guessed:
        why = (
            f"their ends; those of {', '.join(guessed)}, which have none of use, are what random "
            "steps met and half as much again: what lies outside counts as the outermost bin"
        )
        found += [
            Choice("environment.discretise", "low", [low for low, _ in ends], why),
            Choice("environment.discretise", "high", [high for _, high in ends], ""),
        ]
    return found


def _short(value: float) -> float:
    """Return a float32 without the digits that it does not have."""
    return float(f"{value:.7g}")


def _around(low: float, high: float) -> tuple[float, float]:
    """Return a range half as wide again, with ends of two digits."""
    margin = (high - low) / 4 or max(abs(low), 1.0) / 4
    unit = 10.0 ** (math.floor(math.log10((high - low) + 2 * margin)) - 1)
    ends = math.floor((low - margin) / unit) * unit, math.ceil((high + margin) / unit) * unit
    return _short(ends[0]), _short(ends[1])


def levels_of(look: Look) -> list[Choice]:
    """Return levels for the floats of an action."""
    if not look.action_floats:
        return []
    count = len(look.action_floats)
    levels = 5 if count == 1 else 3 if count <= 5 else 2
    section = "environment.discretise_actions"
    why = f"equally spaced values for each float of an action: {levels**count:,} actions"
    found = [Choice(section, "levels", [levels] * count, why)]
    ends = [(low, high) for _, low, high in look.action_floats]
    if any(None in pair for pair in ends):
        why = "no bounds of its own: guessed"
        found += [
            Choice(section, "low", [-1.0 if low is None else low for low, _ in ends], why),
            Choice(section, "high", [1.0 if high is None else high for _, high in ends], ""),
        ]
    return found
