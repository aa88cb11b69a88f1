"""How long the phases of a tick take: measured on some ticks only, so that it costs nothing."""

import time
from collections.abc import Callable, Sequence

import numpy as np

# The parts of a tick, in the order in which their times are reported.
PHASES = ("step", "pack", "exchange", "apply", "answer", "receive")

# One tick in so many has a clock in it: a prime, so that reset ticks come in their proportion.
SAMPLED = 17


class Stopwatch:
    """Runs the phases of a tick, and notes how long they took in one tick of `SAMPLED`.

    Attributes
    ----------
    spent : int64 array
        (7,), the nanoseconds of each of `PHASES`, and how many ticks were timed
    """

    def __init__(self) -> None:
        self.spent = np.zeros(len(PHASES) + 1, np.int64)

    def run(
        self, tick: int, phases: Sequence[tuple[str, Callable[[], None]]], ends: bool = True
    ) -> None:
        """Run some phases of a tick in their order; `ends`: the last of them included."""
        if tick % SAMPLED:
            for _, phase in phases:
                phase()
            return
        clock = time.perf_counter_ns
        at = clock()
        for name, phase in phases:
            phase()
            now = clock()
            self.spent[PHASES.index(name)] += now - at
            at = now
        self.spent[-1] += ends

    def take(self) -> dict[str, float]:
        """Return the nanoseconds of each phase per tick since this was last asked; {}: unknown."""
        *spent, ticks = self.spent.tolist()
        self.spent[:] = 0
        return {name: ns / ticks for name, ns in zip(PHASES, spent, strict=True) if ticks}
