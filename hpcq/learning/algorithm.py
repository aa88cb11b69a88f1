"""How a job learns: its rule, its policy, and what they need, in one place."""

from dataclasses import dataclass

from hpcq.collectors import messages
from hpcq.envs import PythonEnvironment
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError
from hpcq.jit.compiler import PrecompiledCall
from hpcq.job.job import Job
from hpcq.job.schedules import Visits
from hpcq.job.sections import ReplaySection
from hpcq.learning import owner_kernels, policy, rule
from hpcq.learning.policy import Policy
from hpcq.learning.rule import Rule


@dataclass(frozen=True)
class Algorithm:
    """What a job's sections and its environment come to.

    Attributes
    ----------
    actions : int
    masked : bool
        whether the environment says which actions are legal
    steps : int
        the most steps of a return
    visits : bool
        whether the table counts them
    """

    rule: Rule
    policy: Policy
    actions: int
    masked: bool
    steps: int
    visits: bool
    replay: ReplaySection

    @classmethod
    def of(cls, job: Job, environment: CompiledEnvironment | PythonEnvironment) -> "Algorithm":
        """Return the method of a job.

        Raises
        ------
        JobError
            if the rule is not for this environment.
        """
        learning = job.learning
        found, given = rule.find(learning.rule), f"{job.source}: learning.rule = {learning.rule!r}"
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
        if learning.trace_decay < 1 and not found.supports_lambda:
            raise JobError(
                f"{given}, which has no lambda-returns: leave learning.trace_decay = "
                f"{learning.trace_decay:g} out"
            )
        chosen = policy.find(job.exploration.policy)
        return cls(
            found,
            chosen,
            environment.actions,
            environment.masked,
            learning.n_step,
            chosen.visits or isinstance(learning.learning_rate, Visits),
            job.replay,
        )

    @property
    def columns(self) -> int:
        """Numbers in a row of the table."""
        return self.rule.tables * self.actions

    @property
    def sign(self) -> float:
        """Of the discount: what is good for the other player is bad for this one."""
        return -1.0 if self.rule.self_play else 1.0

    @property
    def weighted(self) -> bool:
        """Whether updates carry weights and ask for receipts."""
        return self.replay.prioritised

    def owner_kernels(self, width: int, notes_errors: bool) -> owner_kernels.Kernels:
        """Return the owner's kernels; see `owner_kernels.kernels`."""
        tells = self.steps > 1 and self.rule.cuts_traces
        compiled = owner_kernels.kernels(
            self.rule,
            self.policy,
            self.actions,
            width,
            self.masked,
            tells,
            notes_errors,
            self.weighted,
        )
        return owner_kernels.Kernels(*map(PrecompiledCall, compiled))

    def message_kernels(self) -> messages.Kernels:
        """Return the kernels of the environments' side of the messages."""
        rule = self.rule
        compiled = messages.kernels(
            self.actions, rule.tables, self.masked, self.steps, rule.cuts_traces, self.weighted
        )
        return messages.Kernels(*map(PrecompiledCall, compiled))
