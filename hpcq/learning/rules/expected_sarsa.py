"""Expected SARSA: bootstrap from the mean over the policy's actions.

    target = r + gamma * sum_b pi(b | s') q(s', b)

van Seijen, van Hasselt, Whiteson, Wiering, "A theoretical and empirical analysis of Expected
Sarsa", ADPRL 2009, equation 5; Sutton and Barto, "Reinforcement Learning", 2018, equations 6.9, and
7.7 with several steps.
"""

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Bootstrap, Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Bootstrap:
    """Return the kernel of the policy's mean value."""
    expectation = policy.expectation

    @inlined
    def value(at: Query, action: int) -> float:
        return expectation(at)

    return value


RULE = Rule(bootstrap, off_policy=False)
