"""What decides when a run ends and which checkpoint is the best, beside the table itself.

It is part of every checkpoint: a resumed run decides as the uninterrupted one does.
"""

import dataclasses
from typing import Any

# An attribute of a file has 64 KiB at most.
MOST_CUTS = 1000


def is_cuts(value: Any) -> bool:
    """Return whether a value is what `Progress.cuts` can be."""
    is_list = isinstance(value, list) and len(value) <= MOST_CUTS
    return is_list and all(isinstance(tick, int) and tick >= 0 for tick in value)


@dataclasses.dataclass
class Progress:
    """How far a run has come. All ranks hold the same."""

    seconds: float = 0.0
    """of training, up to the last checkpoint"""
    last_return: float | None = None
    """of the last evaluation"""
    best_return: float | None = None
    """of the best evaluation; the first of several equal ones"""
    best_step: int | None = None
    since_best: int = 0
    """evaluations since then"""
    window_error: float = 0.0
    """largest |TD error| so far in the window that is not over"""
    last_error: float | None = None
    """the same of the last whole window"""
    looked: int | None = None
    """tick of the last look at episodes and the Bellman residual"""
    reward_rate: float | None = None
    """the mean reward that is subtracted from rewards, where they are centred"""
    change: int = 0
    """of values by the last tick's updates, which it does not follow yet: see centring.py"""
    cuts: list[int] = dataclasses.field(default_factory=list)
    """the newest ticks at which episodes were cut for the run to be saved"""

    def note(self, mean_return: float, step: int) -> bool:
        """Note an evaluation; return whether it is the best so far."""
        self.last_return = mean_return
        self.since_best += 1
        if self.best_return is not None and mean_return <= self.best_return:
            return False
        self.best_return, self.best_step, self.since_best = mean_return, step, 0
        return True

    def note_cut(self, tick: int) -> None:
        """Note that episodes were cut at a tick."""
        self.cuts = [*self.cuts, tick][-MOST_CUTS:]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for a file: without what few runs have, where this one has it not."""
        data = dataclasses.asdict(self)
        if not self.cuts:
            del data["cuts"]
        if self.reward_rate is None:
            del data["reward_rate"], data["change"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Progress":
        """Return what `as_dict` gave; what is not there is as at the beginning.

        Raises
        ------
        ValueError
            for anything else.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        for name, value in data.items():
            if name == "cuts" and is_cuts(value):
                continue
            if name == "cuts" or name not in names or not isinstance(value, int | float | None):
                raise ValueError(f"{name} = {value!r} is not part of a run's progress")
        return cls(**data)
