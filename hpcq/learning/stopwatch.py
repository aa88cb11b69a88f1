"""How long the phases of a tick take: measured on some ticks only, so that it costs nothing."""

import time
from collections.abc import Callable, Sequence

# The parts of a tick, in the order in which their times are reported.
PHASES = ("step", "pack", "exchange", "apply", "answer", "receive")

# One tick in so many has a clock in it: a prime, so that reset ticks come in their proportion.
SAMPLED = 17


class Stopwatch:
    """Runs the phases of a tick, and notes how long they took in one tick of `SAMPLED`."""

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}
        self._ticks = 0

    def run(self, tick: int, phases: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """Run all phases, in their order."""
        if tick % SAMPLED:
            for _, phase in phases:
                phase()
            return
        clock, spent = time.perf_counter_ns, self._spent
        at = clock()
        for name, phase in phases:
            phase()
            now = clock()
            spent[name] = spent.get(name, 0) + now - at
            at = now
        self._ticks += 1

    def take(self) -> dict[str, float]:
        """Return the nanoseconds of each phase per tick since this was last asked; {}: unknown."""
        found = {name: spent / self._ticks for name, spent in self._spent.items()}
        self._spent, self._ticks = {}, 0
        return found
