"""When a run is saved: by ticks, by minutes, at milestones, on request."""

import time

from hpcq.job.job import Job


class CheckpointSchedule:
    """The checkpoints to come, of a run that can be saved after multiples of `save_every` ticks.

    After a tick that cuts episodes it can be saved, too.

    Attributes
    ----------
    saved : int
        tick of the last checkpoint, or of the start
    wanted : bool
        whether a request waits until the run can be saved
    milestones : frozenset of int
        steps whose checkpoints stay for good
    """

    def __init__(self, job: Job, save_every: int, tick: int) -> None:
        count = job.environment.count
        milestones = [_round_up(step, count) // count for step in job.checkpoint.milestones]
        self._ticks = {_round_up(tick, save_every) for tick in milestones}
        # The first checkpoint from each of them on stays: that of the end may come before a
        # multiple.
        self.milestones = frozenset(tick * count for tick in milestones)
        self.saved = tick
        self._every = job.checkpoint.every
        self._seconds = 60 * (job.checkpoint.minutes or 0)
        self._save_every = save_every
        self.wanted = False
        self._time = time.monotonic()

    def time_is_up(self) -> bool:
        """Return whether a checkpoint is due by this rank's clock; for rank 0."""
        return self._seconds > 0 and time.monotonic() - self._time >= self._seconds

    def next(self, tick: int) -> int:
        """Return the next tick at which a checkpoint can be due."""
        milestones = [milestone for milestone in self._ticks if milestone > tick]
        # The first tick at which the run can be saved, of those late enough.
        every = max(tick + 1, self.saved + self._every)
        return min([_round_up(every, self._save_every), *milestones])

    def due(self, tick: int, wanted: bool, cut: bool = False) -> bool:
        """Return whether to save after this tick; a request waits until the run can be saved.

        Parameters
        ----------
        cut
            whether this tick has cut episodes.
        """
        self.wanted = self.wanted or wanted
        if (tick % self._save_every and not cut) or tick == self.saved:
            return False
        passed = any(self.saved < milestone <= tick for milestone in self._ticks)
        return self.wanted or passed or tick - self.saved >= self._every

    def note(self, tick: int) -> None:
        """Note that the run has been saved after this tick."""
        self.saved, self.wanted, self._time = tick, False, time.monotonic()


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to
