"""What a learning rule is: what the owner's reply carries, and how an update applies.

A rule is one file in `rules/` that defines `RULE`; its name is the job's `learning.rule`. The
functions of a rule are templates (see `kernels.bind`). They may use

    ACTIONS                                   number of actions
    permits(mask, a)                          whether action a is legal
    acting(q, slot, a)                        the value of a that the policy acts on
    largest(q, slot, mask)                    the largest acting value of the legal actions
    expectation(q, visits, slot, mask, best, parameter)   of acting values under the policy
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from hpcq.jit.compiler import template


@template
def plain(q, slot, action):
    """Return the value of an action where a row holds one for each."""
    return q[slot, action]


@template
def towards(q, slot, column, target, rate):
    """Move one number of a row towards its target: q += rate * (target - q)."""
    old = q[slot, column]
    q[slot, column] = old + rate * (target - old)


@dataclass(frozen=True)
class Rule:
    """One learning rule; see the file of each for its equation."""

    value: Callable
    """template: value(q, visits, slot, mask, best, action, draw, parameter), what a target
    bootstraps from in a state where the policy has chosen `action` and `best` is the largest
    value"""
    update: Callable = towards
    """template: update(q, slot, column, target, rate)"""
    tables: int = 1
    """action values of a (state, action); a fair coin says which one is updated"""
    acting: Callable = plain
    """template: acting(q, slot, action), the value that the policy acts on"""
    cuts_traces: bool = True
    """whether returns of several steps end at the first action that is not greedy"""
    supports_lambda: bool = True
    """whether lambda-returns are defined: averages of returns of different lengths"""
    self_play: bool = False
    """whether the next observation is the other player's: the discount changes its sign"""


def find(name: str) -> Rule:
    """Return the rule that a job calls `name`."""
    rule: Rule = importlib.import_module(f"hpcq.learning.rules.{name}").RULE
    return rule
