"""How a job learns: its rule, its policy, and what they need, in one place."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from hpcq.collectors import messages
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError
from hpcq.exchange.records import record_types
from hpcq.job.choices import rule_options
from hpcq.job.job import Job
from hpcq.job.scheduled import CONSTANT, Terms, value_at
from hpcq.job.schedules import Decay, Episodes
from hpcq.job.sections import ReplaySection
from hpcq.learning import policy, rule
from hpcq.learning.action_selection import RowKernels, make_row_kernels
from hpcq.learning.intervals import SUMS
from hpcq.learning.owner_kernels import OwnerKernels, make_owner_kernels
from hpcq.learning.policy import Policy, PolicyKernels
from hpcq.learning.rule import Rule
from hpcq.spaces.masks import words_of
from hpcq.table.shard import Shard


@dataclass(frozen=True)
class Algorithm:
    """The learning settings that follow from a job and its environment."""

    rule: Rule
    policy: Policy
    actions: int
    masked: bool
    """whether the environment says which actions are legal"""
    gamma: float
    steps: int
    """the most steps of a return"""
    trace_decay: float
    """lambda of returns of several steps"""
    learning_rate: Any
    """schedule, by environment steps or by visits"""
    exploration: Any
    """schedule of the policy's parameter; None where it has none"""
    replay: ReplaySection
    q_init: float
    dtype: np.dtype
    records_errors: bool = False
    """whether the largest |TD error| is kept"""
    options: tuple[tuple[str, Any], ...] = field(default=())
    """the rule's own keys of the job: names and values"""
    centring: float = 0.0
    """how fast the mean reward follows; 0: rewards are not centred"""
    intervals_after: int | None = None
    """updates of a value that its average leaves out; None: there are no averages"""

    @classmethod
    def of(cls, job: Job, environment: CompiledEnvironment | PythonEnvironment) -> "Algorithm":
        """Return the algorithm of a job.

        Raises
        ------
        JobError
            if the rule is not for this environment.
        """
        learning, found = job.learning, rule.find(job.learning.rule)
        _check(job, environment, found)
        chosen = policy.find(job.exploration.policy)
        names = rule_options(learning.rule)
        algorithm = cls(
            found,
            chosen,
            environment.actions,
            environment.masked,
            learning.gamma,
            learning.n_step,
            learning.trace_decay,
            learning.learning_rate,
            getattr(job.exploration, chosen.parameter) if chosen.parameter else None,
            job.replay,
            learning.q_init,
            np.dtype(learning.dtype),
            job.stop.td_error is not None,
            tuple((name, getattr(learning, name)) for name in names),
            learning.centring,
            learning.intervals_after,
        )
        if algorithm.by_episodes:
            found.bootstrap(algorithm.row_kernels(), cast(PolicyKernels, _WithoutMean(job)))
        return algorithm

    def evaluating(self) -> "Algorithm":
        """Return the algorithm that plays the greedy policy and learns nothing."""
        return replace(
            self,
            policy=policy.find("greedy"),
            exploration=None,
            steps=1,
            trace_decay=1.0,
            replay=ReplaySection(),
            records_errors=False,
            centring=0.0,
            intervals_after=None,
        )

    @property
    def tables(self) -> int:
        """Values of every (state, action)."""
        return self.rule.table_count(dict(self.options))

    @property
    def combine(self) -> str:
        """What the policy acts on where there are several tables: their "mean" or "min"."""
        return self.rule.combine if self.tables > 1 else "mean"

    @property
    def mask_words(self) -> int:
        """The uint64 of a mask; 0 where there are none."""
        return words_of(self.actions, self.masked)

    @property
    def columns(self) -> int:
        """Values in a row of the table."""
        return self.tables * self.actions

    @property
    def sums(self) -> int:
        """Numbers behind the values in a row of the table: of averages and intervals."""
        return 0 if self.intervals_after is None else self.columns * SUMS

    @property
    def visits(self) -> bool:
        """Whether the table counts updates."""
        return self.policy.visits or self.learning_rate.counts_visits

    @property
    def rate_decay(self) -> Decay:
        """How the learning rate falls with the updates of a (state, action)."""
        return self.learning_rate.by_updates(self.gamma)

    @property
    def sign(self) -> float:
        """Sign of the discount: -1 where what is good for the other player is bad for this one."""
        return -1.0 if self.rule.self_play else 1.0

    @property
    def weighted(self) -> bool:
        """Whether updates carry weights and are acknowledged with their TD errors."""
        return self.replay.prioritised

    @property
    def tells_greedy(self) -> bool:
        """Whether replies carry `greedy`: off-policy returns of several steps need it."""
        return self.steps > 1 and self.rule.off_policy

    @property
    def parameter(self) -> Terms:
        """The schedule of the policy's parameter; 0 where it has none."""
        if self.by_episodes:
            return Terms(CONSTANT, messages.DECIDED)
        return self.exploration.terms if self.exploration else Terms(CONSTANT, 0.0)

    @property
    def by_episodes(self) -> bool:
        """Whether epsilon follows the episodes of each environment."""
        return isinstance(self.exploration, Episodes)

    @property
    def own_exploration(self) -> Terms:
        """The schedule by an environment's own episodes, where there is one."""
        return self.exploration.terms if self.by_episodes else Terms(CONSTANT, 0.0)

    def parameter_at(self, steps: int, episodes: float) -> float:
        """Return the policy's parameter; 0 where it has none.

        Parameters
        ----------
        steps
            of all environments.
        episodes
            of one environment, by the mean.
        """
        if self.by_episodes:
            return float(value_at(self.own_exploration, episodes))
        return float(value_at(self.parameter, steps))

    def record_types(self) -> tuple[np.dtype, np.dtype]:
        """Return the record types of messages and replies."""
        return record_types(self.dtype, self.mask_words, self.weighted, self.tables)

    def make_shard(self, ranks: int, visits: bool = False) -> Shard:
        """Return an empty shard; `visits`: count updates even where nothing needs it."""
        counts = visits or self.visits
        return Shard(
            ranks, self.columns, self.dtype, self.q_init, counts, self.mask_words, self.sums
        )

    def row_kernels(self) -> RowKernels:
        """Return what rule and policy do with a row."""
        return make_row_kernels(self.actions, self.tables, self.combine, self.masked, self.options)

    def owner_kernels(self, width: int) -> OwnerKernels:
        """Return the owner's kernels for buckets of `width` slots."""
        return make_owner_kernels(
            self.rule,
            self.policy,
            self.row_kernels(),
            width,
            self.masked,
            self.tells_greedy,
            self.records_errors,
            self.weighted,
            self.centring > 0,
            self.sums > 0,
        )

    def message_kernels(self) -> messages.Kernels:
        """Return the kernels of the environments' side of the messages."""
        return messages.kernels(
            self.actions,
            self.tables,
            self.masked,
            self.steps,
            self.rule.off_policy,
            self.weighted,
            1 + self.replay.ratio if self.by_episodes else 0,
        )


class _WithoutMean:
    """Stands for the kernels of a policy whose parameter the owner does not know."""

    choose = None

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def expectation(self) -> Any:
        """Refuse a rule that asks for the mean."""
        raise JobError(
            f"{self._job.source}: learning.rule = {self._job.learning.rule!r} bootstraps from the "
            "policy's mean: exploration.epsilon cannot follow the episodes of each environment; "
            "take a schedule by steps, or another rule"
        )


def _check(job: Job, environment: CompiledEnvironment | PythonEnvironment, found: Rule) -> None:
    """Refuse a rule that is not for this environment, or not for these returns."""
    given = f"{job.source}: learning.rule = {job.learning.rule!r}"
    if environment.self_play and not found.self_play:
        raise JobError(
            f"{given}, but in {environment.id} every observation is "
            "that of the player to move: what is good in the next one is bad in this one; "
            'set learning.rule = "negamax", or give the game another opponent'
        )
    if found.self_play and environment.self_play is False:
        raise JobError(
            f"{given}, but in {environment.id} there are no two "
            "players who take turns, each observation being that of the player to move; take "
            "another rule (or, in a bundled game, opponent = 'self')"
        )
    if job.learning.centring and job.mode.kind != "lockstep":
        raise JobError(
            f"{job.source}: learning.centring is for lockstep mode, where all ranks know one mean "
            f"reward in every tick; leave it out, or mode.kind = {job.mode.kind!r}"
        )
    if job.learning.centring and found.self_play:
        raise JobError(
            f"{given}: what is good for one player is bad for the other, their rewards have no "
            "mean; leave learning.centring out"
        )
    if job.learning.intervals_after is not None:
        _check_intervals(job, found)
    if job.learning.trace_decay < 1 and not found.supports_lambda:
        raise JobError(
            f"{given}, which has no lambda-returns: leave learning.trace_decay = "
            f"{job.learning.trace_decay:g} out"
        )


def _check_intervals(job: Job, found: Rule) -> None:
    """Refuse averages where they are not kept."""
    learning = job.learning
    tables = found.table_count(
        {name: getattr(learning, name) for name in rule_options(learning.rule)}
    )
    for wrong, why in (
        (job.mode.kind != "lockstep", f"lockstep mode, not for mode.kind = {job.mode.kind!r}"),
        (tables > 1, f"rules of one table: learning.rule = {learning.rule!r} keeps {tables}"),
        (learning.dtype != "float64", "learning.dtype = 'float64': sums need its digits"),
    ):
        if wrong:
            raise JobError(f"{job.source}: learning.intervals_after is for {why}; leave it out")
