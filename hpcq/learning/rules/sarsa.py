"""SARSA: bootstrap from the action that the policy takes next.

    target = r + gamma * q(s', a')

Rummery and Niranjan, "On-line Q-learning using connectionist systems", CUED/F-INFENG/TR 166, 1994;
Sutton and Barto, "Reinforcement Learning", 2018, equation 6.7, and 7.4 with several steps. At a
truncation the next action is sampled for the target only; it is never executed.
"""

from hpcq.jit.compiler import inlined
from hpcq.learning.action_selection import Query, RowKernels
from hpcq.learning.policy import PolicyKernels
from hpcq.learning.rule import Bootstrap, Rule


def bootstrap(row: RowKernels, policy: PolicyKernels) -> Bootstrap:
    """Return the kernel of the value of the action chosen."""
    behaviour_value = row.behaviour_value

    @inlined
    def value(at: Query, action: int) -> float:
        return behaviour_value(at.q, at.slot, action)

    return value


RULE = Rule(bootstrap, off_policy=False)
