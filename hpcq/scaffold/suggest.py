"""From a look at an environment to the keys of a first job, each with its reason."""

import math
from typing import Any

import numpy as np

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.scaffold.bins import bins_of, levels_of
from hpcq.scaffold.profile import Look, count_text
from hpcq.scaffold.suggestion import Choice

MINUTES = 2.0
COMPILED_RATE = 5e6


def choose(look: Look, steps: int | None = None) -> list[Choice]:
    """Return the keys of a first job, in the order of a job file.

    Parameters
    ----------
    steps
        environment steps of the run; default: as many as the states need, in a few minutes.

    Raises
    ------
    JobError
        if the environment is nothing for a table.
    """
    described = bins_of(look)
    states = math.prod(described[0].value) if described else _states(look)
    steps = steps or _steps(look, states)
    return [
        *_environment(look, described),
        *_learning(look, steps, bool(described)),
        Choice(
            "exploration",
            "epsilon",
            {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": steps // 2},
            "the share of actions that are random: all at first, one in ten from half time on",
        ),
        *_evaluation(look, steps),
        Choice("checkpoint", "minutes", 10.0, "saved so often, and at the end"),
        Choice("run", "steps", steps, _about_steps(look, steps, states)),
        Choice("run", "seed", 1, "the same seed, the same table, on any number of ranks"),
    ]


def _states(look: Look) -> int:
    """Return about how many states will be met: all, or more than those seen where these recur."""
    seen, steps = len(look.walk.states), look.walk.steps
    every = look.states or 4 * seen
    return min(every, 4 * seen) if 10 * seen < steps else every


def _environment(look: Look, described: list[Choice]) -> list[Choice]:
    compiled = isinstance(look.environment, CompiledEnvironment)
    digest = look.environment.observation["kind"] == "Digest" and not described
    found = []
    if digest:
        found.append(
            Choice(
                "environment",
                "codec",
                "digest",
                "observations too many to number: a state is known by 64 bits of a digest of it",
            )
        )
    found += [
        *described,
        *levels_of(look),
        Choice(
            "environment",
            "count",
            _count(look),
            "environments at once, over all ranks together; part of the job, whatever the ranks",
        ),
    ]
    if look.vector:
        found.append(
            Choice(
                "environment",
                "vector",
                32,
                "Gymnasium has a VectorEnv of it, which steps faster: 32 at a time",
                offered=True,
            )
        )
    if look.walk.masked and look.walk.forbidding:
        why = "it says which actions are legal: only they are taken and learned from"
        found.append(Choice("environment", "action_mask", True, why))
    limit, walk = _limit(look), look.walk
    if limit and not walk.lengths and not look.environment.max_episode_steps:
        why = f"it has no time limit, and no episode ended in {walk.steps:,} random steps"
        found.append(Choice("environment", "max_episode_steps", limit, why))
    if not compiled:
        quiet = _quiet(look)
        why = (
            "ticks after which all episodes start anew, the only ones at which the run can be saved"
        )
        if quiet > 1000:
            why += f"; four episodes of {limit:,} steps"
        found.append(Choice("environment", "reset_every", quiet, why))
    return found


def _limit(look: Look) -> int | None:
    """Return the time limit: the environment's own, or one for episodes that do not end."""
    walk = look.walk
    return look.environment.max_episode_steps or walk.cut or (None if walk.lengths else 1000)


def _mean_length(look: Look) -> float:
    return float(np.mean(look.walk.lengths)) if look.walk.lengths else 1000.0


def _count(look: Look) -> int:
    if "count" in look.section.model_fields_set:
        return look.section.count
    return 1024 if isinstance(look.environment, CompiledEnvironment) else 64


def _quiet(look: Look) -> int:
    """Return the ticks between quiet ones: room for a few episodes."""
    if "reset_every" in look.section.model_fields_set:
        return look.section.reset_every
    return max(1000, 4 * (_limit(look) or 0))


def _learning(look: Look, steps: int, binned: bool) -> list[Choice]:
    walk, limit = look.walk, _limit(look)
    # Who walks at random takes about five times as long as who knows the way. To look much further
    # ahead than the way is long makes learning slow, and rewards that fall with time misleading.
    ahead = min(max((limit or 5 * _mean_length(look)) / 5, 10), 1000)
    gamma = float(f"{1 - float(f'{1 / ahead:.1g}'):.4g}")
    horizon = (
        f"a time limit of {limit:,}"
        if limit
        else f"episodes of about {count_text(_mean_length(look))}"
    )
    found = []
    if look.environment.self_play:
        why = "two players take turns: what is good for the next one is bad for this one"
        found.append(Choice("learning", "rule", "negamax", why))
    found.append(
        Choice(
            "learning",
            "gamma",
            gamma,
            f"discount per step: looks about {1 / (1 - gamma):,.0f} steps ahead, for {horizon} "
            "steps; more where rewards come later",
        )
    )
    falling = {"schedule": "exponential", "start": 0.5, "end": 0.02, "steps": steps}
    if walk.repeats >= 100 and not walk.surprises and not binned:
        rate: Any = 0.5
        why = f"nothing happened by chance in {walk.repeats:,} repeated steps: updates can be large"
    elif binned or look.states is None:
        rate = falling
        why = "what is seen is not all there is, so updates differ: large ones first, then small"
    else:
        rate = {"schedule": "visits", "exponent": 0.7}
        part = "has a part" if walk.surprises else "may have a part"
        why = f"chance {part}: each state and action averages over its updates"
    found.append(Choice("learning", "learning_rate", rate, why))
    if walk.rewards == {0.0}:
        why = (
            f"in {walk.steps:,} random steps there was no reward; should learning find none, too, "
            "let it hope for as much as a reward may be"
        )
        found.append(Choice("learning", "q_init", 1.0, why, offered=True))
    elif max(walk.rewards) <= 0:
        why = "with no reward above 0, 0 is hopeful: what was never tried is tried"
        found.append(Choice("learning", "q_init", 0.0, why))
    return found


def _evaluation(look: Look, steps: int) -> list[Choice]:
    """Return ten evaluations, of so many episodes that they cost little beside the training."""
    every = max(steps // 10, 1)
    if not isinstance(look.environment, CompiledEnvironment):
        every = max(every, _count(look) * _quiet(look))
    length = _limit(look) or 5 * _mean_length(look)
    episodes = int(min(max(every / (10 * length), 20), 100))
    return [
        Choice(
            "evaluation",
            "every",
            every,
            "steps from one evaluation, by the greedy policy, to the next; the checkpoint of the "
            "best one stays as best.h5",
        ),
        Choice(
            "evaluation",
            "episodes",
            episodes,
            "of one evaluation, each in an environment of its own",
        ),
        Choice(
            "stop",
            "patience",
            5,
            "end the run after five evaluations in a row that were no better than the best; "
            "`hpcq reference stop` tells other ends",
            offered=True,
        ),
    ]


def _rate(look: Look) -> float:
    """Return steps per second on two ranks, roughly."""
    if isinstance(look.environment, CompiledEnvironment):
        return 2 * COMPILED_RATE
    return 2 * 0.7 * look.walk.steps / max(look.walk.seconds, 1e-9)


def _steps(look: Look, states: int) -> int:
    """Return a round number of steps: enough for the states, but of a few minutes at most."""
    pairs = states * look.environment.actions
    wanted = min(max(200 * pairs, 200_000), 50_000_000, _rate(look) * 60 * MINUTES)
    wanted = max(wanted, 10_000)
    scale = 10 ** math.floor(math.log10(wanted))
    return int(next(m for m in (5, 2, 1) if m * scale <= wanted) * scale)


def _about_steps(look: Look, steps: int, states: int) -> str:
    seconds = steps / _rate(look)
    text = f"about {max(seconds, 1):,.0f} s on 2 ranks here"
    pairs = states * look.environment.actions
    if steps < 100 * pairs:
        text += f"; {pairs:,} values can be learned, so this may be a beginning: resume with more"
    return text
