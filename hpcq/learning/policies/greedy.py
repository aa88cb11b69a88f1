"""Greedy: always a best action, ties broken at random.

What is unknown gets explored if `learning.q_init` is above everything that can be earned:
optimistic initial values. Sutton and Barto, "Reinforcement Learning", 2018, section 2.6.
"""

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    sample_best = row.sample_best

    @inlined
    def choose(at: Query) -> int:
        return sample_best(at, False)

    @inlined
    def expectation(at: Query) -> float:
        return at.best

    return PolicyKernels(choose, expectation)


POLICY = Policy(make)
