"""How much of a run's time its ranks waited for each other, and what to do about it."""

from collections.abc import Iterable
from typing import Any

# Of a run of so many seconds, the share of waiting that is worth a word.
MUCH_WAITING, LONG_ENOUGH = 0.75, 5.0


class Waiting:
    """Adds up what reports say of the exchange, which includes waiting, and of all other work."""

    def __init__(self) -> None:
        self._waited = self._worked = self._seconds = 0.0

    def add(self, line: dict[str, Any], steps: int, seconds: float) -> None:
        """Count a report's line, of so many steps and seconds."""
        self._waited += steps * (line.get("ns_exchange") or 0.0)
        self._worked += steps * (line.get("busy_ns_mean") or 0.0)
        self._seconds += seconds

    def note(self) -> str:
        """Return what to try where ranks mostly waited for each other; else an empty text."""
        waited = self._waited / (self._waited + self._worked or 1.0)
        # Of what a file holds, any number may be none.
        if not (waited >= MUCH_WAITING and self._seconds >= LONG_ENOUGH):
            return ""
        return (
            f"note: ranks waited for each other for {waited:.0%} of the time: others use their "
            "cores, a tick is too short, or environments step unequally fast; try fewer ranks, "
            "a larger environment.count, or (for the last) mode.kind = 'asynchronous'"
        )


def note_of(lines: Iterable[dict[str, Any]]) -> str:
    """Return the same of a run's metrics."""
    waiting, step, seconds = Waiting(), 0, 0.0
    for line in lines:
        waiting.add(line, line["step"] - step, (line.get("seconds") or 0.0) - seconds)
        step, seconds = line["step"], line.get("seconds") or 0.0
    return waiting.note()
