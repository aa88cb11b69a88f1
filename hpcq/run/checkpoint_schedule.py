"""When a run is saved: every so many ticks, every so many minutes, at milestones, when asked."""

import time

from hpcq.job.job import Job


class CheckpointSchedule:
    """The checkpoints to come, of a run that is saved only at multiples of `quiet` ticks.

    Attributes
    ----------
    saved : int
        tick of the last checkpoint, or of the start
    milestones : frozenset of int
        steps whose checkpoints stay for good
    """

    def __init__(self, job: Job, quiet: int, tick: int) -> None:
        count = job.environment.count
        self._ticks = {
            _round_up(_round_up(step, count) // count, quiet) for step in job.checkpoint.milestones
        }
        self.milestones = frozenset(tick * count for tick in self._ticks)
        self.saved = tick
        self._every = job.checkpoint.every
        self._seconds = 60 * (job.checkpoint.minutes or 0)
        self._quiet = quiet
        self._wanted = False
        self._time = time.monotonic()

    def time_is_up(self) -> bool:
        """Return whether a checkpoint is due by this rank's clock; for one rank to ask."""
        return self._seconds > 0 and time.monotonic() - self._time >= self._seconds

    def due(self, tick: int, wanted: bool) -> bool:
        """Return whether to save after this tick; what is `wanted` waits for a quiet one."""
        self._wanted = self._wanted or wanted
        if tick % self._quiet or tick == self.saved:
            return False
        passed = any(self.saved < milestone <= tick for milestone in self._ticks)
        return self._wanted or passed or tick - self.saved >= self._every

    def note(self, tick: int) -> None:
        """Note that the run has been saved after this tick."""
        self.saved, self._wanted, self._time = tick, False, time.monotonic()


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to
