"""What decides when a run ends and which checkpoint is the best, beside the table itself.

It is part of every checkpoint: a resumed run decides as the uninterrupted one does.
"""

import dataclasses
from typing import Any


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

    def note(self, mean_return: float, step: int) -> bool:
        """Note an evaluation; return whether it is the best so far."""
        self.last_return = mean_return
        self.since_best += 1
        if self.best_return is not None and mean_return <= self.best_return:
            return False
        self.best_return, self.best_step, self.since_best = mean_return, step, 0
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for a file."""
        return dataclasses.asdict(self)

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
            if name not in names or not isinstance(value, int | float | None):
                raise ValueError(f"{name} = {value!r} is not part of a run's progress")
        return cls(**data)
