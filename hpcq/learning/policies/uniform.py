"""Uniform: all legal actions equally likely, regardless of Q.

Off-policy rules learn the optimal values from it, on-policy rules those of the uniform policy.
"""

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import Policy, PolicyKernels


def make(row: RowKernels) -> PolicyKernels:
    """Return the policy's kernels."""
    actions, is_legal, behaviour_value = row.actions, row.is_legal, row.behaviour_value
    sample_legal = row.sample_legal

    @inlined
    def choose(at: Query) -> int:
        return sample_legal(at.mask, at.draw)

    @inlined
    def expectation(at: Query) -> float:
        total, count = 0.0, 0
        for a in range(actions):
            if is_legal(at.mask, a):
                total += behaviour_value(at.q, at.slot, a)
                count += 1
        return total / count

    return PolicyKernels(choose, expectation)


POLICY = Policy(make)
