"""Names that a job file can give and that other folders define, one file to a name.

Rules and policies are found by their files, which are read here and not imported: that would load
all of hpcq. The first sentence of a file's docstring is its meaning. A rule may have keys of its
own in the job; its file declares them as a literal,

    OPTIONS = {"tables": {"default": 2, "least": 1, "most": 64, "meaning": "tables of estimates"}}
"""

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

_PACKAGE = Path(__file__).parents[1]
_RULES, _POLICIES = _PACKAGE / "learning" / "rules", _PACKAGE / "learning" / "policies"


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("[!_]*.py")))


RULES, POLICIES = _files(_RULES), _files(_POLICIES)

if TYPE_CHECKING:
    RuleName = str
    PolicyName = str
else:
    RuleName = Literal[RULES]
    PolicyName = Literal[POLICIES]


@functools.cache
def _source(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def meanings(names: tuple[str, ...], folder: Path) -> str:
    """Return what each of some rules or policies is, in words."""
    texts = []
    for name in names:
        sentence = (ast.get_docstring(_source(folder / f"{name}.py")) or "").split("\n\n")[0]
        title, _, meaning = " ".join(sentence.split()).partition(": ")
        texts.append(f"{name}: {(meaning or title).rstrip('.')}")
    return "; ".join(texts)


RULE_MEANINGS, POLICY_MEANINGS = meanings(RULES, _RULES), meanings(POLICIES, _POLICIES)


@functools.cache
def rule_options(name: str) -> dict[str, dict[str, Any]]:
    """Return the keys of its own that a rule has in the job: default, least, most and meaning."""
    for node in _source(_RULES / f"{name}.py").body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "OPTIONS":
            found: dict[str, dict[str, Any]] = ast.literal_eval(node.value)
            return found
    return {}


def all_rule_options() -> dict[str, list[str]]:
    """Return every key that some rules have of their own, with the names of these rules."""
    found: dict[str, list[str]] = {}
    for rule in RULES:
        for key in rule_options(rule):
            found.setdefault(key, []).append(rule)
    return found
