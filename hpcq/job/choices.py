"""Names that a job file can give and that other folders define, one file to a name."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

_PACKAGE = Path(__file__).parents[1]


def _files(folder: str) -> tuple[str, ...]:
    """Return the modules of a folder, none of them imported: that would load all of hpcq."""
    return tuple(sorted(path.stem for path in (_PACKAGE / folder).glob("[!_]*.py")))


RULES = _files("learning/rules")
POLICIES = _files("learning/policies")

if TYPE_CHECKING:
    RuleName = str
    PolicyName = str
else:
    RuleName = Literal[RULES]
    PolicyName = Literal[POLICIES]
