"""Value iteration and modified policy iteration over the states of all ranks.

Puterman and Shin, "Modified policy iteration algorithms for discounted Markov decision problems",
Management Science 24, 1978. A step is one sweep over all actions, which improves policy and values,
and some over the policy's actions alone. It ends when the bounds are proven to be within the
tolerance.

Where no episode ends and gamma = 1, values are relative, and what a step earns on average is taken
off each of them: White, "Dynamic programming, Markov chains, and the method of successive
approximations", J. Math. Anal. Appl. 6, 1963.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.errors import EnvironmentFault, JobError
from hpcq.jit.compiler import PrecompiledCall
from hpcq.mpi import wait_all
from hpcq.solver.bounds import Problem, bounds, rate_bounds, rounding, tightest
from hpcq.solver.ends import check_ends, longest_episode
from hpcq.solver.space import StateSpace
from hpcq.solver.sweep import Policy, Values, invert, make_kernels, settle

# Sweeps over the policy's actions in a step: until they change values by this part of what the
# sweep over all actions did, or so many; looked at after 1, 2, 4 and then every 8.
_FRACTION, _MOST, _LOOK = 0.1, 256, 8

# Without proven bounds, values must have stopped changing for so many sweeps.
_STILL = 3

# Where nothing is proven: so many sweeps after which values that change as fast as in the sweep
# half as many before grow without end.
_GROWING = 1 << 11

# Times that all outcomes are gone over to write the table: so small a part of it is in memory.
PASSES = 8


@dataclass(frozen=True)
class Step:
    """How far a solution has come after a sweep over all actions."""

    sweeps: int
    """over all actions"""
    evaluations: int
    """over the policy's actions"""
    bound: float
    """proven: no optimal value is further than this from what is saved; inf: none is proven"""
    change: float
    """the largest of any value in the sweep"""
    done: bool
    reward_rate: float = 0.0
    """the average reward of a step, where it is asked for"""
    rate_bound: float = math.inf
    """proven: the largest average reward is not further from that"""


class SeveralRates(EnvironmentFault):
    """The average reward depends on the state in which one begins."""


class Solution:
    """The values of all states, improved step by step. All methods are collective.

    Parameters
    ----------
    method
        "value", "policy" or "auto", see `job.solving`.
    policy
        (states,), an action of each state: its values are computed then, not the optimal ones.
    check_ends
        whether to find out, for gamma = 1, if an episode can end from every state.

    Attributes
    ----------
    problem : Problem
        what the proof rests on
    step : Step
    """

    def __init__(
        self,
        space: StateSpace,
        gamma: float,
        self_play: bool,
        method: str,
        tolerance: float,
        policy: NDArray[np.uint16] | None = None,
        check_ends: bool = True,
    ) -> None:
        self.space, self._comm = space, space.comm
        self._discount = -gamma if self_play else gamma
        self._tolerance = tolerance
        kernels = make_kernels(space.actions, space.single)
        self._improve_kernel = PrecompiledCall(kernels.improve)
        self._evaluate_kernel = PrecompiledCall(kernels.evaluate)
        self._action_values = PrecompiledCall(kernels.action_values)
        self._value, self._new = self._vector(), self._vector()
        self._given, self._checks = policy is not None, check_ends
        self._policy = np.zeros(space.states, np.uint16) if policy is None else policy
        self._shift = 0.0
        self.problem = self._problem(gamma, self_play)
        # A game's policies need not improve; with one outcome, a sweep over all actions is cheap.
        wanted = method == "policy" or (method == "auto" and not space.single)
        can = gamma < 1 or self.problem.average or self.problem.cost > 0
        self._evaluates = wanted and can and not self_play and not self._given
        self._still = self._plain = 0
        self._change = self._unlike = math.inf
        self._look = 1
        self.step = Step(0, 0, math.inf, math.inf, False)

    def _vector(self) -> NDArray[np.float64]:
        """Return values of this rank's states, of the halo, and of the end."""
        return np.zeros(self.space.states + self.space.halo.size + 1)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._value.nbytes + self._new.nbytes + self._policy.nbytes

    def _problem(self, gamma: float, self_play: bool) -> Problem:
        space, comm = self.space, self._comm
        leaves = comm.allreduce(space.leaves, MPI.LOR)
        highest = -math.inf
        for part in space.segments():
            legal = part.reward[np.isfinite(part.reward)]
            highest = max(highest, float(legal.max(initial=-math.inf)))
        cost = max(0.0, -comm.allreduce(highest, MPI.MAX))
        cost, horizon = (cost if math.isfinite(cost) else 0.0), None
        average = gamma == 1 and not leaves
        if average and self_play:
            raise EnvironmentFault(
                f"{space.environment.id}: learning.gamma = 1, but no game ever ends; take gamma "
                "below 1"
            ).on_all_ranks()
        if gamma == 1 and leaves:
            if self_play or cost == 0:
                horizon = longest_episode(space)
            if horizon is None and self._checks:
                check_ends(space, self._policy, self._given)
        outcomes = space.rules.outcomes
        return Problem(gamma, self_play, leaves, average, outcomes, cost, horizon)

    def resume(
        self, value: NDArray[np.float64], policy: Policy, step: Step, state: dict[str, float]
    ) -> None:
        """Go on after a sweep over all actions.

        Parameters
        ----------
        value, policy
            (states,), what it left.
        step
            how far it had come.
        state
            `state` at that time; where something is missing, the end is the same within the bound.
        """
        self._value[: self.space.states], self._policy[:] = value, policy
        self.space.halo.fill(self._value, self.space.states)
        self._plain = step.sweeps if step.evaluations == 0 else 0
        self._unlike = float(state.get("spread", math.inf))
        self._still = int(state.get("still", 0))
        self.step = step

    @property
    def state(self) -> dict[str, float]:
        """What the next step needs to know of the last one, beside values and policy."""
        return {"spread": self._unlike, "still": self._still}

    def steps(self, beat: Callable[[], object]) -> Iterator[Step]:
        """Improve the values until they are within the tolerance; yield each step."""
        while not self.step.done:
            sweeps, evaluations = self.step.sweeps, self.step.evaluations
            if self._evaluates and sweeps:
                evaluations += self._evaluate(beat)
                self._plain = 0
            kernel = self._evaluate_kernel if self._given else self._improve_kernel
            least, most, largest = self._sweep(kernel, beat)
            self._plain += 1
            self._unlike = self._spread(least, most)
            judge = self._judge_rate if self.problem.average else self._judge_values
            self.step = judge(sweeps + 1, evaluations, least, most, largest)
            self._check_growth(self.step)
            yield self.step

    def _judge_values(
        self, sweeps: int, evaluations: int, least: float, most: float, largest: float
    ) -> Step:
        """Return how far values are from the optimum; see `bounds.bounds`."""
        problem = self.problem
        below, above = bounds(problem, least, most, largest, self._plain)
        change = max(abs(least), abs(most))
        # The middle of the interval, where all values may be moved alike.
        movable = problem.gamma < 1 and not problem.leaves and not problem.self_play
        self._shift = (above - below) / 2 if movable else 0.0
        bound = (above + below) / 2 if self._shift else max(above, below)
        self._note_change(change, 0.0)
        if not problem.proves:
            return Step(sweeps, evaluations, math.inf, change, self._still >= _STILL)
        done = bound <= self._tolerance
        if not done:
            self._check_tolerance(tightest(problem, largest))
        return Step(sweeps, evaluations, bound, change, done)

    def _judge_rate(
        self, sweeps: int, evaluations: int, least: float, most: float, largest: float
    ) -> Step:
        """Return how far the average reward is from the largest one; see `bounds.rate_bounds`."""
        low, high = rate_bounds(self.problem, least, most, largest)
        bound, change = (high - low) / 2, (most - least) / 2
        self._note_change(change, rounding(self.problem, largest))
        done = bound <= self._tolerance and self._still >= _STILL
        if not done:
            self._check_tolerance(tightest(self.problem, largest))
        return Step(sweeps, evaluations, math.inf, change, done, (least + most) / 2, bound)

    def _note_change(self, change: float, least: float) -> None:
        """Count the sweeps in which values have not changed; `least` is what cannot be told."""
        still = change <= max(self._tolerance * 1e-3, least)
        self._still = self._still + 1 if still else 0

    def _check_tolerance(self, least: float) -> None:
        """Refuse a tolerance that double precision cannot prove."""
        if least > self._tolerance:
            raise JobError(
                f"solve.tolerance = {self._tolerance:g} is less than rounding allows here; take at "
                f"least {2 * least:.2g}"
            ).on_all_ranks()

    def relative_to(self, value: float) -> None:
        """Move all values by the same, so that such a one becomes 0: of an average reward."""
        self._shift -= value

    def time_sweeps(self, sweeps: int) -> float:
        """Return the seconds of a sweep over all actions: the median of so many. Collective."""
        seconds = []
        for _ in range(sweeps):
            start = time.perf_counter()
            self._sweep(self._improve_kernel, lambda: None)
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds))

    def _spread(self, least: float, most: float) -> float:
        """Return how unlike the changes of values are: by that the bounds shrink."""
        return max(abs(least), abs(most)) if self.problem.leaves else most - least

    def _evaluate(self, beat: Callable[[], object]) -> int:
        """Sweep over the policy's actions; return how often."""
        enough = max(_FRACTION * self._unlike, 0.1 * self._still_enough())
        done, wanted = 0, 1
        while done < _MOST:
            # The ranks agree now and then on whether that is enough: not after every sweep.
            for _ in range(wanted):
                span = self._sweep_once(self._evaluate_kernel, beat)
            done += wanted
            wanted = min(done, _LOOK)
            if self._spread(*self._agreed(span)[:2]) <= enough:
                break
        return done

    def _still_enough(self) -> float:
        """Return the change of values that is certainly within the tolerance."""
        if self.problem.average:
            return 1e-3 * self._tolerance
        if self.problem.gamma < 1:
            return self._tolerance * (1 - self.problem.gamma)
        return 1e-3 * self._tolerance * self.problem.cost

    def _sweep(
        self, kernel: PrecompiledCall, beat: Callable[[], object]
    ) -> tuple[float, float, float]:
        """Replace the values; return the least and the largest change, and the largest |value|."""
        return self._agreed(self._sweep_once(kernel, beat))

    def _sweep_once(self, kernel: PrecompiledCall, beat: Callable[[], object]) -> Values:
        """Replace the values; return (least change, largest change, largest |value|) here."""
        span = np.array([np.inf, -np.inf, 0.0])
        for segment in self.space.segments():
            kernel(segment, self._value, self._discount, self._new, self._policy, span)
        if self.problem.average:
            settle(self._value, self._new, self.space.states, self.step.reward_rate)
        self.space.halo.fill(self._new, self.space.states)
        self._value, self._new = self._new, self._value
        beat()
        return span

    def _agreed(self, span: Values) -> tuple[float, float, float]:
        """Return the same of all ranks."""
        mine, most = np.array([-span[0], span[1], span[2]]), np.empty(3)
        wait_all([self._comm.Iallreduce(mine, most, MPI.MAX)])
        return -float(most[0]), float(most[1]), float(most[2])

    def _check_growth(self, step: Step) -> None:
        """Refuse rewards that can be collected for ever, or at several rates."""
        sweeps = step.sweeps + step.evaluations
        if sweeps < self._look or self.problem.proves:
            return
        before, self._change, self._look = self._change, step.change, 2 * sweeps
        if sweeps < _GROWING or step.change <= 0.9999 * before or self._still:
            return
        about = f"{self.space.environment.id}: learning.gamma = 1, and after {sweeps:,} sweeps "
        if self.problem.average:
            low, high = step.reward_rate - step.change, step.reward_rate + step.change
            raise SeveralRates(
                f"{about}the average reward of a step is between {low:.6g} and {high:.6g}, "
                "depending on where one begins: some states cannot be reached from others; take "
                "gamma below 1"
            ).on_all_ranks()
        raise EnvironmentFault(
            f"{about}values still grow by {step.change:.3g} in each: rewards can be collected for "
            "ever; take gamma below 1"
        ).on_all_ranks()

    @property
    def value(self) -> NDArray[np.float64]:
        """The values of this rank's states after the last sweep, within `step.bound` of V*.

        Until the next sweep.
        """
        value = self._value[: self.space.states]
        return value + self._shift if self._shift else value

    def rows(self, final: bool, most: int) -> Iterator[tuple[NDArray, NDArray]]:
        """Yield hashes and Q (n, A) of this rank's states in the order of hashes. Not collective.

        Of illegal actions Q is -inf.

        Parameters
        ----------
        final
            one step beyond the values, moved to the middle of their bounds; else what the last
            sweep saw: the largest of a row is its value then.
        most
            rows to yield at once, which are valid until the next are asked for.
        """
        space, source = self.space, self._new
        if final:
            source = self._value
            if self._shift:
                # The end keeps its value of 0, and with it nothing is moved where episodes end.
                source = source + self._shift
                source[-1] = self._value[-1]
        position = np.empty(space.states, np.uint32)
        invert(space.order, position)
        size = most * max(1, -(-space.states // (PASSES * most)))
        q = np.empty((min(size, space.states), space.actions))
        for first in range(0, space.states, size):
            found = q[: space.states - first]
            for segment in space.segments():
                self._action_values(segment, position, first, source, self._discount, found)
            for start in range(0, found.shape[0], most):
                there = space.order[first + start : first + min(start + most, found.shape[0])]
                rows = found[start : start + there.size]
                if self.problem.average:
                    self._settle_rows(rows, there, final)
                yield space.hashes[there], rows

    def _settle_rows(self, q: Values, numbers: NDArray[np.uint32], final: bool) -> None:
        """Take the average reward off Q (n, A) of some states; the largest of a row is its value.

        In a file that is not final they are what the next sweep needs: the values to the last bit,
        and which action is the first of the best.
        """
        if final:
            q -= self.step.reward_rate
            return
        value, best = self._value[numbers][:, None], q.max(axis=1, keepdims=True)
        worse = np.minimum(value + (q - best), np.nextafter(value, -np.inf))
        q[:] = np.where(q == best, value, worse)
