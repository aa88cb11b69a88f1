"""From the profile of an environment to the keys of a first job, each with its reason."""

import math
from dataclasses import dataclass
from typing import Any

from hpcq.job.toml_io import toml
from hpcq.scaffold.bins import bin_keys, level_keys
from hpcq.scaffold.profile import EnvironmentProfile, count_text
from hpcq.scaffold.sizes import Sizes, mean_length, sizes, time_limit


@dataclass(frozen=True)
class Suggestion:
    """One key of the job."""

    section: str
    key: str
    value: Any
    why: str
    optional: bool = False
    """whether the key is written as a comment, to be enabled by the user"""


# Measured, see hpcq/learning/README.md: where gamma is near 1, and nothing terminates.
LEAST_GAMMA = 0.95
CENTRING = 0.3
CENTRED_RATE = {"schedule": "visits", "exponent": 1.0, "slope": 0.1}

_SEEDINGS = {
    "seed_globals": "it draws from random or numpy.random: each copy gets generators of its own",
    "reproducible": (
        "its seed does not decide its first observation: two runs of this job differ, and so does "
        "a run that was stopped and resumed"
    ),
}


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
    size = sizes(profile, states, steps)
    steps = size.steps
    return [
        *_environment(profile, bins, size),
        *_learning(profile, steps, bool(bins)),
        Suggestion(
            "exploration",
            "epsilon",
            {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": steps // 2},
            "probability of a random action: 1 at first, one in ten from half time on",
        ),
        *_evaluation(profile, size),
        Suggestion("checkpoint", "minutes", 10.0, "between checkpoints; one more at the end"),
        Suggestion("run", "steps", steps, _about_steps(profile, size, states)),
        Suggestion("run", "seed", 1, "the same seed, the same table, on any number of ranks"),
    ]


def _states(profile: EnvironmentProfile) -> int:
    """Return about how many states will be visited: all, or a multiple of those seen so far."""
    seen, steps = len(profile.rollout.states), profile.rollout.steps
    total = profile.states or 4 * seen
    return min(total, 4 * seen) if 10 * seen < steps else total


def _environment(
    profile: EnvironmentProfile, bins: list[Suggestion], size: Sizes
) -> list[Suggestion]:
    def key(name: str, value: Any, why: str, optional: bool = False) -> Suggestion:
        return Suggestion("environment", name, value, why, optional)

    keys = []
    if profile.environment.observation["kind"] == "Digest" and not bins:
        why = "observations too many to number: a state is known by 64 bits of a digest of it"
        keys.append(key("codec", "digest", why))
    keys += bins
    keys += [Suggestion("environment.discretise_actions", *each) for each in level_keys(profile)]
    why = "environments at once, over all ranks together; part of the job, whatever the ranks"
    keys.append(key("count", size.count, why))
    if profile.vector:
        several = min(32, size.count)
        why = f"Gymnasium has a VectorEnv of it, which steps faster: {several} at a time"
        keys.append(key("vector", several, why, optional=True))
    for name in profile.seeding:
        keys.append(key(name, profile.seeding[name], _SEEDINGS[name]))
    rollout = profile.rollout
    mask_key = profile.section.mask_key
    if mask_key is not None or (rollout.masked and rollout.has_illegal_actions):
        why = "it gives the legal actions: only they are taken and learned from"
        keys.append(key("action_mask", True, why))
    if mask_key is not None:
        keys.append(key("mask_key", mask_key, "the part of the observation that holds them"))
    limit = time_limit(profile)
    if limit and not rollout.lengths and not profile.environment.max_episode_steps:
        why = f"it has no time limit, and no episode ended in {rollout.steps:,} random steps"
        keys.append(key("max_episode_steps", limit, why))
    if size.reset_every is not None:
        why = (
            "ticks after which all episodes start anew: the run can be saved and stopped at these "
            f"alone, about every {max(size.reset_seconds, 1):,.0f} s"
        )
        keys.append(key("reset_every", size.reset_every, why))
    return keys


def _learning(profile: EnvironmentProfile, steps: int, binned: bool) -> list[Suggestion]:
    def key(name: str, value: Any, why: str, optional: bool = False) -> Suggestion:
        return Suggestion("learning", name, value, why, optional)

    rollout, limit = profile.rollout, time_limit(profile)
    # Random episodes take about five times as long as those of a good policy. A horizon far beyond
    # a good episode slows learning down, and makes rewards that fall with time misleading.
    horizon = min(max((limit or 5 * mean_length(profile)) / 5, 10), 1000)
    gamma = float(f"{1 - float(f'{1 / horizon:.1g}'):.4g}")
    episodes = (
        f"a time limit of {limit:,}"
        if limit
        else f"episodes of about {count_text(mean_length(profile))}"
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
    rate, why = _learning_rate(profile, steps, binned)
    centring = _centring(profile, gamma, rate)
    if centring is not None and not centring.optional:
        rate, why = CENTRED_RATE, "an average over all updates that forgets where they began"
    keys.append(key("learning_rate", rate, why))
    if centring is not None:
        keys.append(centring)
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


def _centring(profile: EnvironmentProfile, gamma: float, rate: Any) -> Suggestion | None:
    """Return the key that centres rewards, for tasks that go on; enabled where that is known."""
    if profile.rollout.terminated or profile.environment.self_play or gamma < LEAST_GAMMA:
        return None
    averages = isinstance(rate, dict) and rate["schedule"] == "visits"
    known = averages and profile.never_terminates
    if known:
        why = "nothing terminates: the mean reward is taken out of all values, which learns faster"
    else:
        why = (
            f"in {profile.rollout.steps:,} random steps no episode terminated; if none ever does, "
            "this takes the mean reward out of all values, which learns faster"
        )
        if averages:
            why += f"; best with learning_rate = {toml(CENTRED_RATE)}"
    return Suggestion("learning", "centring", CENTRING, why, optional=not known)


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


def _evaluation(profile: EnvironmentProfile, size: Sizes) -> list[Suggestion]:
    """Return ten evaluations, of so few episodes that they cost little beside the training."""
    every = max(size.steps // 10, size.count * (size.reset_every or 1))
    length = time_limit(profile) or 5 * mean_length(profile)
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


def _about_steps(profile: EnvironmentProfile, size: Sizes, states: int) -> str:
    text = f"about {max(size.steps / size.rate, 1):,.0f} s on 2 ranks here"
    pairs = states * profile.environment.actions
    if size.steps < 100 * pairs:
        text += f"; {pairs:,} values can be learned, so this may be a beginning: resume with more"
    return text
