"""Proven bounds on the optimal values after a sweep of value iteration."""

import math
from dataclasses import dataclass

import numpy as np

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Problem:
    """What the bounds need to know of a problem, of all ranks together."""

    gamma: float
    self_play: bool
    """whether the discount is negative: the other player moves next"""
    leaves: bool
    """whether an episode can end"""
    average: bool
    """whether what counts is the average reward of a step: gamma = 1, and no episode ends"""
    outcomes: int
    """most outcomes of an action"""
    cost: float
    """every reward is at most minus this; 0: some reward is not below 0"""
    horizon: int | None
    """most steps of an episode, where there is such a number; only asked for gamma = 1"""

    @property
    def proves(self) -> bool:
        """Whether there are bounds on values for this problem."""
        if self.average:
            return False
        return self.gamma < 1 or self.horizon is not None or (self.cost > 0 and not self.self_play)

    @property
    def why_not(self) -> str:
        """What is not proven, and why, as text; empty if there are bounds."""
        if self.proves:
            return ""
        if self.average:
            return (
                "gamma = 1, and no episode ends: what is computed, with a proven bound, is the "
                "largest average reward of a step; values are relative, without a bound"
            )
        return (
            "no bound can be proven: gamma = 1, rewards are not all below 0 and episodes may go on "
            "for ever: that the values have stopped changing is all that is known"
        )


def rounding(problem: Problem, largest: float) -> float:
    """Return what one sweep can be wrong by, in the last bits; `largest` is the largest |value|."""
    return (problem.outcomes + 3) * _EPS * largest


def tightest(problem: Problem, largest: float) -> float:
    """Return the least bound that can be proven with such a largest |value|."""
    wrong = rounding(problem, largest)
    if problem.gamma < 1:
        return wrong / (1 - problem.gamma)
    if problem.average:
        return wrong
    return wrong * (problem.horizon + 1 if problem.horizon else largest / problem.cost)


def rate_bounds(problem: Problem, least: float, most: float, largest: float) -> tuple[float, float]:
    """Return (low, high): the largest average reward of a step is between them, in every state.

    Parameters are those of `bounds`, of changes of which nothing was taken off. Odoni, "On finding
    the maximal gain for Markov decision processes", Operations Research 17, 1969.
    """
    wrong = rounding(problem, largest)
    return least - wrong, most + wrong


def bounds(
    problem: Problem, least: float, most: float, largest: float, sweep: int
) -> tuple[float, float]:
    """Return (below, above): every optimal value is within [V' - below, V' + above].

    Parameters
    ----------
    least, most
        change of any value in the last sweep, from V to V'.
    largest
        |V'| of any state.
    sweep
        how many sweeps of value iteration, from values of 0, have been done without another step.

    Notes
    -----
    gamma < 1: MacQueen, "A modified dynamic programming method for Markovian decision problems",
    J. Math. Anal. Appl. 14, 1966; where episodes can end, only changes away from 0 are bounds.
    For two players the operator is antitone, and a contraction by gamma.

    gamma = 1 and all rewards at most -c: if T V >= V - d, then V / (1 - d / c) <= T of itself, so
    it is below V*; if T V <= V + e, the optimal policy, which takes at most -V* / c steps, gains at
    most e in each: V* <= V / (1 + e / c).

    gamma = 1 and no episode is longer than `horizon`: so many sweeps from any values are exact.
    """
    gamma = problem.gamma
    wrong = rounding(problem, largest)
    if gamma < 1:
        factor = gamma / (1 - gamma)
        if problem.self_play:
            least, most = -max(abs(least), abs(most)), max(abs(least), abs(most))
        elif problem.leaves:
            least, most = min(least, 0.0), max(most, 0.0)
        slack = wrong / (1 - gamma)
        return slack - factor * least, slack + factor * most
    if problem.horizon is not None:
        exact = sweep > problem.horizon or least == most == 0.0
        slack = wrong * (problem.horizon + 1) if exact else math.inf
        return slack, slack
    if problem.cost > 0 and not problem.self_play:
        down = max(0.0, wrong - least) / problem.cost
        up = max(0.0, wrong + most) / problem.cost
        # V is within the change of V'.
        reach = largest + max(abs(least), abs(most))
        below = reach * down / (1 - down) if down < 1 else math.inf
        return below + max(0.0, most), reach * up / (1 + up) + max(0.0, -least)
    return math.inf, math.inf
