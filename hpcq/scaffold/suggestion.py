"""One line of a first job."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One key of the job, or a commented one that is offered."""

    section: str
    key: str
    value: Any
    why: str
    offered: bool = False
