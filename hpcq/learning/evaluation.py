"""How good the greedy policy is by now: episodes of their own, in environments of their own.

An evaluation plays each of its episodes in one environment, all of them at once and spread over the
ranks as those of the job are. It is a second learner that sees the first one's table, asks for
greedy actions, and sends no updates: no row is made, and nothing that is learned depends on it.
Every evaluation of a run draws the same numbers, a function of the evaluation's seed: two of them
differ by the policy alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from hpcq.collectors.batch import Outcome
from hpcq.errors import EnvironmentFault
from hpcq.job.job import Job
from hpcq.job.schedules import Constant
from hpcq.job.sections import ExplorationSection, ModeSection
from hpcq.learning.learner import Learner
from hpcq.rng import Purpose, seed_word, tick_word

# Ticks between two quiet ones: an evaluation has none.
_NEVER = 1 << 40

# Steps of an episode where neither the environment nor the job has a limit.
HORIZON = 1000


class Evaluation(NamedTuple):
    """What the greedy policy came to."""

    mean_return: float
    """undiscounted; in self-play that of the player who begins"""
    standard_error: float
    """of the mean; 0 for one episode"""
    mean_length: float


def evaluating(job: Job) -> Job:
    """Return the job that plays the episodes of this one's evaluation."""
    section = job.evaluation
    unit = job.environment.vector or 1
    word = tick_word(seed_word(section.seed), 0, Purpose.EVALUATE)
    parts = {
        "environment": {"count": -(-section.episodes // unit) * unit, "reset_every": _NEVER},
        # Nothing is learned: no transition need be remembered.
        "learning": {"n_step": 1, "trace_decay": 1.0},
        "replay": {"ratio": 0},
        "run": {"seed": int(word) >> 1},
    }
    changed = {name: getattr(job, name).model_copy(update=keys) for name, keys in parts.items()}
    greedy = ExplorationSection(epsilon=Constant(value=0.0))
    return job.model_copy(update={**changed, "exploration": greedy, "mode": ModeSection()})


class Evaluator:
    """Evaluates the table of a learner. Collective.

    Parameters
    ----------
    beat
        called in every tick.
    """

    def __init__(self, learner: Learner, beat: Callable[[], None] = lambda: None) -> None:
        job, environment = evaluating(learner.job), learner.environment
        self._player = Learner(job, environment, learner.comm, shard=learner.shard)
        self._beat = beat
        self._limit = job.evaluation.max_steps or environment.max_episode_steps or HORIZON
        # The next state is the other player's, and so is what is won there.
        self._sign = learner.algorithm.sign

    def evaluate(self) -> Evaluation:
        """Play all episodes; the result is the same on all ranks and for any number of them.

        Raises
        ------
        EnvironmentFault
            on the rank whose environment failed.
        """
        try:
            return self._play()
        except EnvironmentFault as error:
            raise EnvironmentFault(f"evaluation: {error}") from error

    def _play(self) -> Evaluation:
        player, batch = self._player, self._player.collector.batch
        returns, lengths = np.zeros(batch.hash.size), np.zeros(batch.hash.size, np.int64)
        going = np.ones(batch.hash.size, np.bool_)
        batch.elapsed[:] = 0
        batch.episode_return[:] = 0.0
        player.begin()
        sign = 1.0
        for _ in range(self._limit):
            anyone = player.advance(int(going.any()))
            player.drop_updates()
            if not anyone:
                break
            self._beat()
            returns[going] += sign * batch.reward[going]
            lengths += going
            going &= batch.outcome == Outcome.CONTINUES
            sign *= self._sign
        # Each place is filled by one rank: sums with zeros are exact, and so is fsum.
        everything = np.zeros((2, player.job.environment.count))
        everything[:, player.start : player.start + returns.size] = returns, lengths
        player.comm.Allreduce(MPI.IN_PLACE, everything, MPI.SUM)
        return _summary(*everything)

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        self._player.close()


def _summary(returns: np.ndarray, lengths: np.ndarray) -> Evaluation:
    count = returns.size
    mean = math.fsum(returns) / count
    squares = math.fsum((value - mean) ** 2 for value in returns.tolist())
    error = math.sqrt(squares / (count - 1) / count) if count > 1 else 0.0
    return Evaluation(mean, error, math.fsum(lengths) / count)
