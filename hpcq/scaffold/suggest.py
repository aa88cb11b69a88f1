"""From the profile of an environment to the keys of a first job, each with its reason."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.scaffold.bins import bin_keys, level_keys
from hpcq.scaffold.profile import EnvironmentProfile, count_text

MINUTES = 2.0
COMPILED_RATE = 5e6


@dataclass(frozen=True)
class Suggestion:
    """One key of the job."""

    section: str
    key: str
    value: Any
    why: str
    optional: bool = False
    """whether the key is written as a comment, to be enabled by the user"""


def suggest(profile: EnvironmentProfile, steps: int | None = None) -> list[Suggestion]:
    """Return the keys of a first job, in the order of a job file.

    Parameters
    ----------
    steps
        environment steps of the run; default: as many as the states need, in a few minutes.

    Raises
    ------
    JobError
        if the environment does not suit a table.
    """
    bins = [Suggestion("environment.discretise", *key) for key in bin_keys(profile)]
    states = math.prod(bins[0].value) if bins else _states(profile)
    steps = steps or _steps(profile, states)
    return [
        *_environment(profile, bins),
        *_learning(profile, steps, bool(bins)),
        Suggestion(
            "exploration",
            "epsilon",
            {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": steps // 2},
            "probability of a random action: 1 at first, one in ten from half time on",
        ),
        *_evaluation(profile, steps),
        Suggestion("checkpoint", "minutes", 10.0, "between checkpoints; one more at the end"),
        Suggestion("run", "steps", steps, _about_steps(profile, steps, states)),
        Suggestion("run", "seed", 1, "the same seed, the same table, on any number of ranks"),
    ]


def _states(profile: EnvironmentProfile) -> int:
    """Return about how many states will be visited: all, or a multiple of those seen so far."""
    seen, steps = len(profile.rollout.states), profile.rollout.steps
    total = profile.states or 4 * seen
    return min(total, 4 * seen) if 10 * seen < steps else total


def _environment(profile: EnvironmentProfile, bins: list[Suggestion]) -> list[Suggestion]:
    def key(name: str, value: Any, why: str, optional: bool = False) -> Suggestion:
        return Suggestion("environment", name, value, why, optional)

    keys = []
    if profile.environment.observation["kind"] == "Digest" and not bins:
        why = "observations too many to number: a state is known by 64 bits of a digest of it"
        keys.append(key("codec", "digest", why))
    keys += bins
    keys += [Suggestion("environment.discretise_actions", *each) for each in level_keys(profile)]
    why = "environments at once, over all ranks together; part of the job, whatever the ranks"
    keys.append(key("count", _count(profile), why))
    if profile.vector:
        why = "Gymnasium has a VectorEnv of it, which steps faster: 32 at a time"
        keys.append(key("vector", 32, why, optional=True))
    rollout = profile.rollout
    if rollout.masked and rollout.has_illegal_actions:
        why = "it gives the legal actions: only they are taken and learned from"
        keys.append(key("action_mask", True, why))
    limit = _time_limit(profile)
    if limit and not rollout.lengths and not profile.environment.max_episode_steps:
        why = f"it has no time limit, and no episode ended in {rollout.steps:,} random steps"
        keys.append(key("max_episode_steps", limit, why))
    if not isinstance(profile.environment, CompiledEnvironment):
        ticks = _reset_every(profile)
        why = "ticks after which all episodes start anew: the run can be saved at these alone"
        if ticks > 1000:
            why += f"; four episodes of {limit:,} steps"
        keys.append(key("reset_every", ticks, why))
    return keys


def _time_limit(profile: EnvironmentProfile) -> int | None:
    """Return the time limit: the environment's own, or one for episodes that do not end."""
    rollout = profile.rollout
    own = profile.environment.max_episode_steps or rollout.time_limit
    return own or (None if rollout.lengths else 1000)


def _mean_length(profile: EnvironmentProfile) -> float:
    return float(np.mean(profile.rollout.lengths)) if profile.rollout.lengths else 1000.0


def _count(profile: EnvironmentProfile) -> int:
    if "count" in profile.section.model_fields_set:
        return profile.section.count
    return 1024 if isinstance(profile.environment, CompiledEnvironment) else 64


def _reset_every(profile: EnvironmentProfile) -> int:
    """Return the ticks between two reset ticks: enough for a few episodes."""
    if "reset_every" in profile.section.model_fields_set:
        return profile.section.reset_every
    return max(1000, 4 * (_time_limit(profile) or 0))


def _learning(profile: EnvironmentProfile, steps: int, binned: bool) -> list[Suggestion]:
    def key(name: str, value: Any, why: str, optional: bool = False) -> Suggestion:
        return Suggestion("learning", name, value, why, optional)

    rollout, limit = profile.rollout, _time_limit(profile)
    # Random episodes take about five times as long as those of a good policy. A horizon far beyond
    # a good episode slows learning down, and makes rewards that fall with time misleading.
    horizon = min(max((limit or 5 * _mean_length(profile)) / 5, 10), 1000)
    gamma = float(f"{1 - float(f'{1 / horizon:.1g}'):.4g}")
    episodes = (
        f"a time limit of {limit:,}"
        if limit
        else f"episodes of about {count_text(_mean_length(profile))}"
    )
    keys = []
    if profile.environment.self_play:
        why = "two players take turns: what is good for the next one is bad for this one"
        keys.append(key("rule", "negamax", why))
    why = (
        f"discount per step: a horizon of about {1 / (1 - gamma):,.0f} steps, for {episodes} "
        "steps; more where rewards come later"
    )
    keys.append(key("gamma", gamma, why))
    keys.append(key("learning_rate", *_learning_rate(profile, steps, binned)))
    if rollout.rewards == {0.0}:
        why = (
            f"in {rollout.steps:,} random steps there was no reward; should learning find none "
            "either, start from an optimistic value: the largest reward, say"
        )
        keys.append(key("q_init", 1.0, why, optional=True))
    elif max(rollout.rewards) <= 0:
        why = "with no reward above 0, 0 is optimistic: untried actions get tried"
        keys.append(key("q_init", 0.0, why))
    return keys


def _learning_rate(profile: EnvironmentProfile, steps: int, binned: bool) -> tuple[Any, str]:
    """Return the learning rate and the reason for it."""
    rollout = profile.rollout
    if rollout.repeats >= 100 and not rollout.differing_repeats and not binned:
        return 0.5, f"{rollout.repeats:,} repeated steps all had the same outcome: a large rate"
    if binned or profile.states is None:
        falling = {"schedule": "exponential", "start": 0.5, "end": 0.02, "steps": steps}
        return falling, "a key is only part of the state, so targets vary: a falling rate"
    part = "is" if rollout.differing_repeats else "may be"
    why = f"the environment {part} random: each state and action averages over its updates"
    return {"schedule": "visits", "exponent": 0.7}, why


def _evaluation(profile: EnvironmentProfile, steps: int) -> list[Suggestion]:
    """Return ten evaluations, of so few episodes that they cost little beside the training."""
    every = max(steps // 10, 1)
    if not isinstance(profile.environment, CompiledEnvironment):
        every = max(every, _count(profile) * _reset_every(profile))
    length = _time_limit(profile) or 5 * _mean_length(profile)
    episodes = int(min(max(every / (10 * length), 20), 100))
    return [
        Suggestion(
            "evaluation",
            "every",
            every,
            "steps between evaluations of the greedy policy; the checkpoint of the best one is "
            "kept as best.h5",
        ),
        Suggestion(
            "evaluation", "episodes", episodes, "of an evaluation, each in its own environment"
        ),
        Suggestion(
            "stop",
            "patience",
            5,
            "end the run after five evaluations in a row that were no better than the best; "
            "`hpcq reference stop` lists other conditions",
            optional=True,
        ),
    ]


def _rate(profile: EnvironmentProfile) -> float:
    """Return steps per second on two ranks, roughly."""
    if isinstance(profile.environment, CompiledEnvironment):
        return 2 * COMPILED_RATE
    return 2 * 0.7 * profile.rollout.steps / max(profile.rollout.seconds, 1e-9)


def _steps(profile: EnvironmentProfile, states: int) -> int:
    """Return a round number of steps: enough for the states, but of a few minutes at most."""
    pairs = states * profile.environment.actions
    wanted = min(max(200 * pairs, 200_000), 50_000_000, _rate(profile) * 60 * MINUTES)
    wanted = max(wanted, 10_000)
    scale = 10 ** math.floor(math.log10(wanted))
    return int(next(m for m in (5, 2, 1) if m * scale <= wanted) * scale)


def _about_steps(profile: EnvironmentProfile, steps: int, states: int) -> str:
    seconds = steps / _rate(profile)
    text = f"about {max(seconds, 1):,.0f} s on 2 ranks here"
    pairs = states * profile.environment.actions
    if steps < 100 * pairs:
        text += f"; {pairs:,} values can be learned, so this may be a beginning: resume with more"
    return text
