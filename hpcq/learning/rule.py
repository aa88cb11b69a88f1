"""What a learning rule is: the value that a target bootstraps from, and how an update applies.

A rule is one file in `rules/` that defines `RULE`; its name is the job's `learning.rule`, the first
sentence of its docstring is its meaning in `hpcq reference`. A rule may have keys of its own in the
job: a literal `OPTIONS` in its file declares them (see job/choices.py), and ``dict(row.options)``
holds their values.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import QTable, Query, RowKernels
from hpcq.learning.policy import PolicyKernels

Bootstrap = Callable[[Query, int], float]


@inlined
def towards(q: QTable, slot: np.uint64, column: np.uint64, target: float, rate: float) -> None:
    """Move one value of a row towards its target: q += rate * (target - q)."""
    old = q[slot, column]
    q[slot, column] = old + rate * (target - old)


@dataclass(frozen=True)
class Rule:
    """One learning rule; see the file of each for its equation."""

    bootstrap: Callable[[RowKernels, PolicyKernels], Bootstrap]
    """makes the kernel value(query, action): what a target bootstraps from in the state of a query
    for which the policy has chosen `action`"""
    update: Callable[..., None] = towards
    """kernel: update(q, slot, column, target, rate)"""
    tables: int | str = 1
    """number of tables, or the name of the key in `OPTIONS` that gives it; each update goes to one
    table, chosen uniformly"""
    combine: Literal["mean", "min"] = "mean"
    """what the policy acts on, and views show, where there are several tables"""
    off_policy: bool = True
    """whether it learns the values of the optimal policy, whatever the behaviour policy does:
    returns of several steps then end at the first action that is not greedy"""
    supports_lambda: bool = True
    """whether lambda-returns are defined: averages of returns of different lengths"""
    self_play: bool = False
    """whether the next observation is the other player's: the discount changes its sign"""

    def table_count(self, options: Mapping[str, Any]) -> int:
        """Return the number of tables under these options of the job."""
        return self.tables if isinstance(self.tables, int) else int(options[self.tables])


def find(name: str) -> Rule:
    """Return the rule that a job calls `name`."""
    module: Any = importlib.import_module(f"hpcq.learning.rules.{name}")
    rule: Rule = module.RULE
    return rule
