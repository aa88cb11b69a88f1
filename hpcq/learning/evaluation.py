"""How good the greedy policy is by now: episodes of their own, in environments of their own.

An evaluation plays each of its episodes in one environment, all of them at once and spread over the
ranks as those of the job are. It reads the learner's table, asks for greedy actions, and sends no
updates: no row is made, and nothing that is learned depends on it. Every evaluation of a run draws
the same numbers, a function of the evaluation's seed: two of them differ by the policy alone.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from hpcq.collectors.base import block
from hpcq.collectors.batch import Outcome
from hpcq.collectors.factory import make_collector
from hpcq.collectors.infos import EpisodeInfos, means, totals
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import EnvironmentFault
from hpcq.exchange import make_exchange
from hpcq.job.sections import EvaluationSection
from hpcq.learning.actor import Actor
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.owner import Owner
from hpcq.learning.tick import Ticks
from hpcq.rng import Purpose, seed_word, tick_word
from hpcq.table.shard import Shard

# Ticks between two reset ticks: an evaluation has none.
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
    infos: dict[str, float | None]
    """means of the numbers in the environments' infos, see `infos.means`"""


class Evaluator:
    """Evaluates a table. Collective.

    Parameters
    ----------
    algorithm
        by which the table is learned.
    shard
        this rank's rows.
    beat
        called in every tick.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        environment: CompiledEnvironment | PythonEnvironment,
        section: EvaluationSection,
        shard: Shard,
        comm: MPI.Intracomm,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        greedy = algorithm.evaluating()
        unit = (isinstance(environment, PythonEnvironment) and environment.vector) or 1
        self._total = -(-section.episodes // unit) * unit
        self._start, count = block(comm.rank, comm.size, self._total, unit)
        word = tick_word(seed_word(section.seed), 0, Purpose.EVALUATE)
        seed = seed_word(int(word) >> 1)
        collector = make_collector(environment, seed, self._start, count, _NEVER)
        self._actor = Actor(greedy, collector, seed, self._total, partial(make_exchange, comm))
        self._ticks = Ticks(self._actor, Owner(greedy, shard, comm.size), self._total)
        self._comm, self._beat = comm, beat
        self._limit = section.max_steps or environment.max_episode_steps or HORIZON
        # The next state is the other player's, and so is what is won there.
        self._sign = algorithm.sign

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
        ticks, batch = self._ticks, self._actor.collector.batch
        returns, lengths = np.zeros(batch.hash.size), np.zeros(batch.hash.size, np.int64)
        going = np.ones(batch.hash.size, np.bool_)
        batch.elapsed[:] = 0
        batch.episode_return[:] = 0.0
        ticks.begin()
        infos = EpisodeInfos(self._actor.collector.infos.keys, batch.hash.size)
        sign = 1.0
        for _ in range(self._limit):
            anyone = ticks.advance(int(going.any()))
            self._actor.drop_updates()
            if not anyone:
                break
            self._beat()
            returns[going] += sign * batch.reward[going]
            lengths += going
            infos.add(self._actor.collector.infos.values, going[:, None])
            going &= batch.outcome == Outcome.CONTINUES
            sign *= self._sign
        # Each place is filled by one rank: sums with zeros are exact, and so is fsum.
        here = slice(self._start, self._start + returns.size)
        keys = infos.keys
        everything = np.zeros((self._total, 2 + 2 * len(keys)))
        everything[here] = np.column_stack([returns, lengths, infos.last, infos.sums])
        self._comm.Allreduce(MPI.IN_PLACE, everything, MPI.SUM)
        last, sums = np.split(everything[:, 2:], 2, axis=1)
        found = means(keys, totals(last, sums))
        return _summary(everything[:, 0], everything[:, 1], found)

    def close(self) -> None:
        """Release environments and MPI datatypes. Collective."""
        self._actor.collector.close()
        self._actor.exchange.free()


def _summary(
    returns: np.ndarray, lengths: np.ndarray, infos: dict[str, float | None]
) -> Evaluation:
    count = returns.size
    mean = math.fsum(returns) / count
    squares = math.fsum((value - mean) ** 2 for value in returns.tolist())
    error = math.sqrt(squares / (count - 1) / count) if count > 1 else 0.0
    return Evaluation(mean, error, math.fsum(lengths) / count, infos)
