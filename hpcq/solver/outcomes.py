"""The outcomes of states, block by block, as the rules of an environment say them."""

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import EnvironmentFault, JobError
from hpcq.jit.compiler import PrecompiledCall
from hpcq.solver import expand
from hpcq.solver.expand import Block
from hpcq.solver.sweep import AHEAD, Segment
from hpcq.spaces.codec import Codec
from hpcq.spaces.masks import shape_of, words_of

# Outcomes of a block: its arrays stay in the second-level cache.
BLOCK_OUTCOMES = 1 << 18


class Outcomes:
    """Asks the rules about a block of states at a time. Nothing is collective.

    Attributes
    ----------
    block : Block
        the outcomes of the states that were asked for last
    states_in_block : int
        of how many states there is room for
    places : int
        most outcomes of a state
    single : bool
        whether actions have one outcome each
    """

    def __init__(self, environment: CompiledEnvironment) -> None:
        rules = environment.rules
        if rules is None:
            raise JobError(
                f"{environment.id} does not say what can happen: only environments with rules can "
                "be explored and solved (see `rules` in the README of hpcq/envs)"
            )
        self.rules, self.single = rules, rules.outcomes == 1
        self._environment, self._actions = environment, environment.actions
        self._generate = PrecompiledCall(
            expand.make_generate(rules, environment.legal, environment.actions)
        )
        self._codec = Codec(environment.observation)
        self.places = self._actions * rules.outcomes
        self.states_in_block = max(1, BLOCK_OUTCOMES // self.places)
        rows = self.states_in_block * self._actions
        most = rows * rules.outcomes
        self.block = Block(
            np.empty(most, np.uint64),
            np.empty(most, np.uint32),
            np.empty(1 if self.single else most, np.float64),
            np.empty(rows, np.float64),
            np.empty(1 if self.single else rows, np.uint32),
            np.zeros(1, np.bool_),
            np.zeros((1, *shape_of(words_of(self._actions))), np.uint64),
            np.empty((2, expand.PART), np.uint32),
            np.empty(expand.PART, np.uint64),
        )

    @property
    def leaves(self) -> bool:
        """Whether any of the outcomes so far was the end of an episode."""
        return bool(self.block.leaves[0])

    def generate(self, hashes: NDArray[np.uint64], first: int, last: int) -> int:
        """Write the outcomes of the states `first` ... `last` - 1 to the block; return how many.

        Raises
        ------
        EnvironmentFault
            naming state, action and outcome where the rules are wrong.
        """
        fault = expand.no_fault()
        keys = np.uint64(self._codec.size % (1 << 64))
        n = self._generate(self._environment.model, hashes, first, last, keys, self.block, fault)
        if n < 0:
            raise self._explained(fault)
        return int(n)

    def segment(self, first: int, last: int, n: int) -> Segment:
        """Return a copy of the block: `n` outcomes of the states `first` ... `last` - 1."""
        block, rows = self.block, (last - first) * self._actions
        reward = block.reward[:rows]
        same = bool((reward == reward[0]).all())
        places = np.zeros(n + AHEAD, np.uint32)
        places[:n] = block.numbers[:n]
        return Segment(
            first,
            last - first,
            places,
            block.probability[: 1 if self.single else n].copy(),
            reward[: 1 if same else rows].copy(),
            block.ends[: 1 if self.single else rows].copy(),
        )

    def _explained(self, fault: expand.Fault) -> EnvironmentFault:
        kind, value = int(fault.kind[0]), float(fault.value[0])
        what = {
            expand.SUM: f"its probabilities add up to {value:.12g}, expected 1",
            expand.PROBABILITY: f"the probability is {value}, expected a number from 0 on",
            expand.KEY: f"it leads to key {value:.0f}, which is outside the observation space",
            expand.REWARD: f"the reward is {value}, expected a finite number",
            expand.NO_ACTION: "no action is legal there, and the episode has not ended",
        }[kind]
        where = self.text(int(fault.state[0]))
        if kind != expand.NO_ACTION:
            where += f", action {int(fault.action[0])}"
        if kind not in (expand.SUM, expand.NO_ACTION):
            where += f", outcome {int(fault.outcome[0])}"
        return EnvironmentFault(f"{self._environment.id}: {where}: {what}")

    def text(self, key: int) -> str:
        """Return a state as users know it."""
        if key >= self._codec.size:
            return f"key {key:,}"
        observation = np.array2string(np.asarray(self._codec.decode(key), object), separator=", ")
        return f"state {' '.join(observation.split())} (key {key:,})"
