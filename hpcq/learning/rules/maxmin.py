"""Maxmin Q-learning: the policy and the target use the least of several estimates.

    q_min(s, b) = min_i q_i(s, b)
    target of one q_i, drawn evenly = r + gamma * max_b q_min(s', b)

Lan, Pan, Fyshe, White, "Maxmin Q-learning: controlling the estimation bias of Q-learning", ICLR
2020, algorithm 1. One table is Q-learning, which overestimates; more tables lower the estimate.
"""

from hpcq.learning.rule import Rule
from hpcq.learning.rules.q_learning import bootstrap

OPTIONS = {
    "tables": {
        "default": 2,
        "least": 1,
        "most": 64,
        "meaning": "tables of estimates, of which an update changes one",
    },
}

RULE = Rule(bootstrap, tables="tables", combine="min")
