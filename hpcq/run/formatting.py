"""Names and numbers as text for people; numbers as JSON."""

import json
import math
from typing import Any

# What the policies' parameters are called in the metrics; those of other policies are None.
EXPLORATION = ("epsilon", "temperature", "confidence")


def ranks_text(ranks: int) -> str:
    """Return a number of ranks."""
    return f"{ranks:,} rank{'s' * (ranks != 1)}"


def rate_text(value: float) -> str:
    """Return a rate, three digits and a unit."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.1f}"


def number_text(value: float) -> str:
    """Return a count, three digits or more and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.{max(0, 2 - len(str(int(value / size))) + 1)}f} {unit}"
    return str(int(value))


def time_text(seconds: float) -> str:
    """Return a time as hours, minutes and seconds, without leading zeros."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d} h"
    return f"{minutes}:{whole % 60:02d} min" if minutes else f"{whole} s"


def json_text(value: Any, indent: int | None = None) -> str:
    """Return plain data as JSON, which has no infinite numbers: null, as what is missing."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
