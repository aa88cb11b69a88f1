"""What a behaviour policy is: how an action is chosen, and what the values come to under it.

A policy is one file in `policies/` that defines `POLICY`; its name is the job's
`exploration.policy`. Its functions are templates (see `kernels.bind`) and use the same names as
those of a rule (see `rule.py`), and

    pick(draw, n)            a number in 0 ... n - 1 from the lower half of a draw
    anything(mask, draw)     any legal action
    one_of(q, slot, mask, best, explore, draw)    any of the best actions, or of all to explore
    tried(visits, slot, a)   how often action a was updated

In a state without a row all actions are worth the same: there every policy is uniform.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """One behaviour policy; see the file of each for its formula."""

    choose: Callable
    """template: choose(q, visits, slot, mask, best, draw, parameter) -> action"""
    expectation: Callable
    """template: expectation(q, visits, slot, mask, best, parameter), of the acting values"""
    parameter: str | None = None
    """the key of [exploration] whose schedule gives `parameter`"""
    visits: bool = False
    """whether it looks at visit counts"""
    helpers: tuple[Callable, ...] = ()
    """templates that the others use by their names, each of them also those before it"""


def find(name: str) -> Policy:
    """Return the policy that a job calls `name`."""
    policy: Policy = importlib.import_module(f"hpcq.learning.policies.{name}").POLICY
    return policy
