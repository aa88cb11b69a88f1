"""What a behaviour policy is: how an action is chosen, and the expected value under it.

A policy is one file in `policies/` that defines `POLICY`; its name is the job's
`exploration.policy`. It makes two kernels from those of `RowKernels`. In a state without a row all
actions are worth the same: there every policy is uniform.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcq.learning.action_selection import Query, RowKernels


class PolicyKernels(NamedTuple):
    """The kernels of a policy for rows of one shape."""

    choose: Callable[[Query], int]
    """choose(query) -> action"""
    expectation: Callable[[Query], float]
    """expectation(query) -> mean behaviour value"""


@dataclass(frozen=True)
class Policy:
    """One behaviour policy; see the file of each for its formula."""

    make: Callable[[RowKernels], PolicyKernels]
    parameter: str | None = None
    """the key of [exploration] whose schedule gives `parameter`"""
    visits: bool = False
    """whether it looks at visit counts"""


def find(name: str) -> Policy:
    """Return the policy that a job calls `name`."""
    module: Any = importlib.import_module(f"hpcq.learning.policies.{name}")
    policy: Policy = module.POLICY
    return policy
