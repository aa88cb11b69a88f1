"""The other sections of a job file and their keys: types, ranges, defaults."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, create_model, model_validator

from hpcq.job.choices import (
    POLICY_MEANINGS,
    RULE_MEANINGS,
    RULES,
    PolicyName,
    RuleName,
    all_rule_options,
    rule_options,
)
from hpcq.job.schedules import (
    Constant,
    Epsilon,
    Fraction,
    LearningRate,
    PositiveSchedule,
    Schedule,
)
from hpcq.job.section import Section

# Above 1 it may swing further at every tick.
Centring = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False),
    BeforeValidator(lambda value: float(value) if isinstance(value, bool) else value),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "boolean"}]}
    ),
]


class _LearningSection(Section):
    """The learning rule and its table."""

    rule: RuleName = Field(default="q_learning", description=RULE_MEANINGS)
    gamma: Annotated[float, Field(ge=0, le=1)]
    """discount per step"""
    learning_rate: LearningRate
    """how much of the difference between target and Q-value an update takes"""
    n_step: Annotated[int, Field(ge=1, le=256)] = 1
    """rewards in a return before it bootstraps"""
    trace_decay: Annotated[float, Field(ge=0, le=1)] = 1.0
    """lambda: with n_step > 1, returns of 1 ... n_step steps are averaged by powers of it; 1: only
    the longest one"""
    q_init: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Q-value of what was never updated"""
    centring: Centring = 0.0
    """for gamma near 1, in tasks that go on: subtract their mean from rewards, and let it follow
    so many times as fast as values do; true is 1; 0: rewards stay as they are. With gamma = 1 it
    becomes the average reward"""
    intervals_after: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    """keep the average of each value over its updates, but for the first so many of them, and 95 %
    intervals, in lockstep, float64, for rules of one table; each value takes 32 bytes more;
    default: neither"""
    dtype: Literal["float32", "float64"] = "float64"
    """of the Q-values"""

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, data: Any) -> Any:
        """Fill in the defaults of the rule's own keys; refuse those of other rules."""
        if not isinstance(data, dict):
            return data
        rule = data.get("rule", "q_learning")
        own = rule_options(rule) if rule in RULES else {}
        for key, rules in all_rule_options().items():
            if key not in own and data.get(key) is not None:
                raise ValueError(f"rule {rule!r} has no {key}: it is for {', '.join(rules)}")
        given = {key: value for key, value in data.items() if key not in own or value is not None}
        return {**{key: option["default"] for key, option in own.items()}, **given}

    @model_validator(mode="after")
    def _several_steps(self) -> "_LearningSection":
        if self.trace_decay < 1 and self.n_step == 1:
            raise ValueError("trace_decay belongs to returns of several steps: give n_step, too")
        return self


def _rule_fields() -> dict[str, Any]:
    """Return the fields of the keys that single rules have of their own."""
    fields: dict[str, Any] = {}
    for key, rules in all_rule_options().items():
        option = rule_options(rules[0])[key]
        value: Any = Annotated[
            type(option["default"]), Field(ge=option["least"], le=option["most"])
        ]
        defaults = {rule_options(rule)[key]["default"] for rule in rules}
        text = f"{', '.join(rules)}: {option['meaning']}; default {min(defaults)}"
        fields[key] = (value | None, Field(default=None, description=text))
    return fields


if TYPE_CHECKING:

    class LearningSection(_LearningSection):
        """The learning rule and its table."""

else:
    LearningSection = create_model(
        "LearningSection",
        __base__=_LearningSection,
        __doc__=_LearningSection.__doc__,
        **_rule_fields(),
    )


class ExplorationSection(Section):
    """The behaviour policy."""

    policy: PolicyName = Field(default="epsilon_greedy", description=POLICY_MEANINGS)
    epsilon: Epsilon = Constant(value=0.1)
    """epsilon_greedy: probability of a uniformly random action"""
    temperature: PositiveSchedule | None = None
    """boltzmann: temperature of the softmax, in the unit of rewards; larger is more random"""
    confidence: PositiveSchedule | None = None
    """ucb: the weight of what is little known, in the unit of rewards"""

    @model_validator(mode="after")
    def _its_own_parameter(self) -> "ExplorationSection":
        for key, policy in (("temperature", "boltzmann"), ("confidence", "ucb")):
            if (getattr(self, key) is not None) != (self.policy == policy):
                verb = "needs" if self.policy == policy else "has no"
                away = "" if verb == "needs" else f" (`--set exploration.{key}=` takes it away)"
                raise ValueError(f"policy {self.policy!r} {verb} {key}{away}")
        if self.policy != "epsilon_greedy" and self.epsilon != Constant(value=0.1):
            raise ValueError(
                f"policy {self.policy!r} has no epsilon (on the command line, `--set "
                "exploration.epsilon=` takes it away)"
            )
        return self


# Fewest transitions in a ring of prioritised replay: the error of one is known two ticks later.
LEAST_RING = 3


class ReplaySection(Section):
    """Parallel experience replay: every environment learns from its past transitions once more."""

    ratio: Annotated[int, Field(ge=0, le=64)] = 0
    """transitions replayed for each live one; 0: no replay"""
    capacity: Annotated[int, Field(ge=1, lt=1 << 40)] = 100_000
    """latest transitions that are kept, over all environments together (each keeps its part)"""
    learning_starts: Annotated[int, Field(ge=1)] = 1
    """transitions of its own that an environment waits for before any is replayed"""
    sampling: Literal["uniform", "prioritised"] = "uniform"
    """uniform: all that are kept are drawn alike; prioritised: by their last |TD error|"""
    priority_exponent: Fraction = 0.6
    """prioritised: how much the errors matter; 0: not at all"""
    priority_floor: Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)] = 1e-6
    """prioritised: added to every |TD error|, in the unit of rewards"""
    importance_exponent: Schedule = Constant(value=0.4)
    """prioritised: how far smaller steps make up for being drawn more often; below 1, values are
    biased where the environment has chance"""

    @property
    def prioritised(self) -> bool:
        """Whether anything is drawn by priority."""
        return self.ratio > 0 and self.sampling == "prioritised"

    @model_validator(mode="after")
    def _its_own_keys(self) -> "ReplaySection":
        if self.sampling == "uniform":
            for key in ("priority_exponent", "priority_floor", "importance_exponent"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(
                        f"sampling = 'uniform' has no {key}; set sampling = 'prioritised'"
                    )
        elif self.ratio == 0:
            raise ValueError("sampling = 'prioritised' draws nothing: give ratio, too")
        return self


class ModeSection(Section):
    """How the ranks learn together."""

    kind: Literal["lockstep", "periodic", "asynchronous"] = "lockstep"
    """lockstep: all ranks take every tick together, and the table does not depend on their number;
    periodic: agents learn by themselves, and from time to time their tables are merged;
    asynchronous: no rank waits for a slower one"""
    batches: Annotated[int, Field(ge=1, le=16)] = 1
    """lockstep: the environments step in so many batches, by their numbers in turn; while the
    messages of one travel, others are worked on, which hides the network's latency. Shapes learning
    a little: a batch's updates come before the next one's queries"""
    agents: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    """periodic: so many agents learn by themselves between merges, each on a table of its own and
    with its part of the environments; shapes learning, as the number of ranks then does not;
    default: the number of ranks at the first start"""
    merge_every: Annotated[int, Field(ge=1)] = 64
    """periodic: ticks from one merge to the next"""
    averaging: Literal["importance", "equal"] = "importance"
    """periodic: an agent's weight in a merge follows from how often it has updated a value since
    the last one; or is the same for all"""
    parts: Annotated[int, Field(ge=1, le=64)] = 4
    """asynchronous: the environments of a rank step in so many parts (compiled ones in fewer, of at
    least 256); while one waits for replies, others step"""
    max_staleness: Annotated[int, Field(ge=1)] = 64
    """asynchronous: ticks that a part may take before all ranks have agreed on the number of steps:
    how far the fastest rank can run ahead"""


class EvaluationSection(Section):
    """When and how the greedy policy is tried. Nothing here changes what is learned."""

    every: Annotated[int, Field(ge=1)] | None = None
    """environment steps between evaluations; rounded up to whole ticks (Python environments: to
    reset ticks); default: no evaluation"""
    episodes: Annotated[int, Field(ge=1, le=1 << 24)] = 100
    """of one evaluation, one in each of so many environments; rounded up to whole VectorEnvs"""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """steps after which an episode counts as it stands; default: the environment's time limit,
    1000 where it has none"""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """of all that is random in an evaluation; the same in each of them"""
    keep_best: bool = True
    """save the run after each evaluation that is the best so far, as best.h5"""


class StopSection(Section):
    """When the run is over before run.steps. The first criterion that holds ends it."""

    every: Annotated[int, Field(ge=1)] = 100_000
    """environment steps between two checks of episodes and bellman_residual; rounded up to whole
    ticks (periodic mode: to merges)"""
    episodes: Annotated[int, Field(ge=1)] | None = None
    """episodes that have ended, over all environments"""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """of training, in all processes of the run together"""
    td_error: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """converged: no update within td_window had a larger |target - q(s, a)|"""
    td_window: Annotated[int, Field(ge=1)] = 1_000_000
    """environment steps of one window after the other; rounded up as `every` is"""
    bellman_residual: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """converged: in all states of the table, for all actions, q(s, a) is within this of what the
    model says; for rules that learn off-policy, where the environment is a compiled table"""
    evaluation_return: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """an evaluation's mean return is at least this"""
    patience: Annotated[int, Field(ge=1)] | None = None
    """so many evaluations in a row were no better than the best one before"""


class CheckpointSection(Section):
    """When and how the run is saved. Nothing here changes what is learned."""

    every: Annotated[int, Field(ge=1)] = 100_000
    """ticks between checkpoints (Python environments: rounded up to reset ticks)"""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """minutes between checkpoints, beside `every`"""
    memory_seconds: Annotated[float, Field(gt=0)] | None = None
    """seconds between checkpoints in memory (/dev/shm of rank 0's node, and of another one), from
    which a run goes on after the death of ranks or of a node; default: none"""
    keep: Annotated[int, Field(ge=1)] = 3
    """newest checkpoints that stay"""
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    """steps at which the run is saved in a checkpoint that stays for good"""
    writer: Literal["auto", "direct", "mpio", "gather"] = "auto"
    """direct: all ranks write to their places in the file; mpio: all ranks write through
    parallel HDF5; gather: through rank 0; auto: direct"""


class RunSection(Section):
    """How long, from which seed, and where to."""

    steps: Annotated[int, Field(ge=1, lt=1 << 62)]
    """environment steps of all environments together; rounded up to whole ticks"""
    cut_episodes: bool = True
    """where only a reset tick (periodic mode: a merge, too) can be saved: the end, and a stop that
    would wait for more than 5 s, make one at once. false: they wait, and a stopped and resumed run
    ends in the table of the uninterrupted one"""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """of every random number"""
    directory: str | None = None
    """run directory; default: runs/NAME, NAME from the job file"""
    start_from: str | None = None
    """checkpoint, or run directory (its newest one), whose table (not steps, not environments) this
    run starts from"""
    report_every: Annotated[float, Field(gt=0)] = 2.0
    """seconds between progress lines"""
    tensorboard: bool = False
    """write the metrics for TensorBoard, too; needs the package tensorboardX"""
    stall_timeout: Annotated[float, Field(gt=0)] = 600.0
    """seconds after which a rank that comes to no exchange ends the job with code 76"""
    table_gib: Annotated[float, Field(gt=0)] | None = None
    """most memory for the table of one rank, growing included; default: no limit"""
