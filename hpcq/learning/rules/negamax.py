"""Negamax Q-learning, for two players who take turns in one table.

    target = r - gamma * max_b q(s', b)

s' is the position as the other player sees it: what is good there is bad here. Littman, "Markov
games as a framework for multi-agent reinforcement learning", ICML 1994, for games in which the
players move in turns: the minimum over the other's actions is then taken in s' itself.
"""

from hpcq.learning.rule import Rule
from hpcq.learning.rules.q_learning import bootstrap

RULE = Rule(bootstrap, self_play=True)
