"""SARSA: bootstrap from the action that the policy takes next.

    target = r + gamma * q(s', a')

Rummery and Niranjan, "On-line Q-learning using connectionist systems", CUED/F-INFENG/TR 166, 1994;
Sutton and Barto, "Reinforcement Learning", 2018, equation 6.7, and 7.4 with several steps. The last
state of a truncated episode has an action of its own draw, which nobody takes.
"""

from hpcq.jit.compiler import template
from hpcq.learning.rule import Rule


@template
def value(q, visits, slot, mask, best, action, draw, parameter):
    """Return the value of the action chosen."""
    return acting(q, slot, action)


RULE = Rule(value, cuts_traces=False)
