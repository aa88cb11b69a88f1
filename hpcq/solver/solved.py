"""A solution as a checkpoint holds it: the same file as of a learned table."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.fields import Field
from hpcq.job.job import Job
from hpcq.learning import rule, saved_state
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.progress import Progress
from hpcq.solver.iteration import Solution
from hpcq.spaces.masks import bitsets, words_of


class SolvedRows:
    """The rows of one rank, made from its solution piece by piece; see `table.shard.Shard`."""

    keeps_visits = False

    def __init__(self, solution: Solution, masked: bool, q_init: float) -> None:
        self.columns, self.dtype, self.keeps_masks = solution.space.actions, np.dtype(float), masked
        self._words = words_of(solution.space.actions, masked)
        self._solution, self._q_init = solution, q_init

    def __len__(self) -> int:
        return self._solution.space.states

    def pieces_with_masks(self, rows: int) -> Iterator[tuple[NDArray, ...]]:
        """Yield hashes, q, visits and masks, in the order of the hashes, `rows` at a time."""
        for hashes, q in self._solution.rows(self._solution.step.done, max(1, rows)):
            masks = np.zeros(0, np.uint64)
            if self.keeps_masks:
                legal = np.isfinite(q)
                masks, q = bitsets(legal), np.where(legal, q, self._q_init)
            visits = np.zeros((hashes.size, 0), np.uint32)
            yield hashes, q, visits, masks.reshape(hashes.size, self._words)


class SolvedTable:
    """A solution to be saved; see `checkpoint.snapshot.Saved`. Making it is collective.

    Nothing is in its environments: a file has a place for each of the job's.

    Attributes
    ----------
    solution : dict
        sweeps, evaluations: done so far, over all actions and over those of the policy.
        bound: no value is further from the optimum; null: nothing is proven.
        why_not: what is not proven, and why; empty if there is a bound.
        done: whether the bound is within the tolerance.
        start: the expected discounted return of the optimal policy; null if it is not done, or
        if what counts is the average reward.
        spread, still: of a file that is not done, `Solution.state`.
        rate, rate_bound: the average reward of a step, where it is asked for, and what is proven
        of it: it is no further from the largest one.
    """

    def __init__(
        self,
        job: Job,
        environment: CompiledEnvironment,
        comm: MPI.Intracomm,
        solution: Solution,
        start: float | None,
    ) -> None:
        self.job, self.environment, self.comm = job, environment, comm
        step = solution.step
        self.algorithm = one_table(job, environment)
        self.shard = SolvedRows(solution, environment.masked, float(self.algorithm.q_init))
        average = solution.problem.average
        self.progress = Progress(reward_rate=step.reward_rate if average else None)
        self.steps = self.saved_tick = step.sweeps
        self.solution: dict[str, Any] = {
            "sweeps": step.sweeps,
            "evaluations": step.evaluations,
            "bound": step.bound if math.isfinite(step.bound) else None,
            "why_not": solution.problem.why_not,
            "done": step.done,
            "start": start,
            **({} if step.done else solution.state),
            **({"rate": step.reward_rate, "rate_bound": step.rate_bound} if average else {}),
        }

    def saved_arrays(self) -> list[tuple[Field, NDArray]]:
        """Return what a file must have beside the table: environments in which nothing happens."""
        count = self.job.environment.count if self.comm.rank == 0 else 0
        there = saved_state.features(self.algorithm)
        size = saved_state.sizes(self.algorithm, self.job.environment.count)
        return [
            (field, np.zeros((count, *saved_state.shape(field, size)), field.dtype))
            for field in saved_state.ENVIRONMENT_FIELDS + saved_state.MASK_FIELDS
            if there.issuperset(field.needs)
        ]


def one_table(job: Job, environment: CompiledEnvironment) -> Algorithm:
    """Return the job's algorithm with the one table that the optimal values are.

    Raises
    ------
    JobError
        for a rule that is not for this environment.
    """
    algorithm = Algorithm.of(job, environment)
    name = "negamax" if algorithm.rule.self_play else "q_learning"
    plain = dataclasses.replace(algorithm, rule=rule.find(name), steps=1, options=())
    replay = plain.replay.model_copy(update={"ratio": 0})
    return dataclasses.replace(plain, replay=replay)
