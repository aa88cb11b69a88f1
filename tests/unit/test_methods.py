"""Every rule and policy against the second implementation in support/reference.py, bit for bit."""

import dataclasses

import make_job
import numpy as np
import pytest
import reference
import rules
from by_phase import by_phase
from mpi4py import MPI

from hpcq.envs.protocol import kernel
from hpcq.envs.resolve import resolve
from hpcq.exchange import make_exchange
from hpcq.hashing import mix64
from hpcq.learning.lockstep import LockstepLearner

ACTIONS = 3
TICKS = 120
GAMMA = 0.9
HORIZON = {"schedule": "horizon", "scale": 2.0, "start": 0.8}
VISITS = {"schedule": "visits", "exponent": 0.7, "start": 0.9, "end": 0.2}
LATER = {"schedule": "visits", "exponent": 1.0, "slope": 0.1, "start": 1.0, "end": 0.0}
FALLING = {"schedule": "linear", "start": 0.8, "end": 0.1, "steps": 1000}


@kernel
def some_legal(model, key):
    """Every action by itself, pairs, and all: by the key."""
    return np.uint64(1) + key % np.uint64(7)


def some_legal_actions(s):
    return [a for a in range(ACTIONS) if (1 + s % 7) >> a & 1]


BY_EPISODES = {"schedule": "episodes", "start": 0.9, "decay": 0.8, "end": 0.05}


def rate_of(schedule):
    if not isinstance(schedule, dict):
        return lambda n, step: schedule
    start, end = schedule["start"], schedule.get("end")
    if schedule["schedule"] == "visits":
        slope, exponent = schedule.get("slope", 1.0), schedule["exponent"]
        return lambda n, step: max(end, start * (1.0 + slope * n) ** -exponent)
    if schedule["schedule"] == "horizon":
        slope = schedule["scale"] * (1.0 - GAMMA)
        return lambda n, step: start * (1.0 + slope * n) ** -1.0
    return lambda n, step: start + (end - start) * min(1.0, step / schedule["steps"])


CASES = {
    **{name: (rules.learning(name), {"epsilon": 0.3}, False) for name in rules.RULES},
    **{
        f"{name}, several steps, visits, masks, ucb": (
            rules.learning(name, n_step=3, learning_rate=VISITS),
            {"policy": "ucb", "confidence": 1.5},
            True,
        )
        for name in rules.RULES
    },
    "falling epsilon": ({"n_step": 2}, {"epsilon": FALLING}, False),
    "horizon": (
        {"rule": "double_q", "n_step": 2, "learning_rate": HORIZON},
        {"policy": "ucb", "confidence": 1.5},
        True,
    ),
    "epsilon by episodes": ({}, {"epsilon": BY_EPISODES}, False),
    "epsilon by episodes, sarsa": (
        {"rule": "sarsa", "n_step": 3, "learning_rate": VISITS},
        {"epsilon": BY_EPISODES},
        True,
    ),
    "uniform": ({"rule": "expected_sarsa", "n_step": 4}, {"policy": "uniform"}, False),
    "boltzmann": (
        {"rule": "expected_sarsa", "learning_rate": FALLING},
        {"policy": "boltzmann", "temperature": {**FALLING, "start": 2.0}},
        False,
    ),
    "boltzmann, masks": (
        {"rule": "sarsa", "n_step": 3, "trace_decay": 0.6},
        {"policy": "boltzmann", "temperature": 0.5},
        True,
    ),
    "ucb": ({"rule": "expected_sarsa"}, {"policy": "ucb", "confidence": 1.5}, False),
    "greedy, masks": ({"q_init": 3.0, "learning_rate": VISITS}, {"policy": "greedy"}, True),
    "several steps": ({"n_step": 5}, {"epsilon": 0.3}, False),
    "Q(lambda)": ({"n_step": 8, "trace_decay": 0.7}, {"epsilon": 0.3}, False),
    "masks": ({"rule": "expected_sarsa"}, {"epsilon": 0.3}, True),
    "centred": ({"centring": 0.3, "learning_rate": LATER}, {"epsilon": 0.3}, False),
    "centred, several steps, masks": (
        {"rule": "double_q", "centring": 0.3, "n_step": 3},
        {"epsilon": 0.3},
        True,
    ),
}
ONE_BATCH = [
    *((case, 1, 50) for case in CASES),
    # Fewer values than updates in a tick.
    ("centred", 1, 3),
]
SEVERAL_BATCHES = [
    ("q_learning", 2, 50),
    ("double_q, several steps, visits, masks, ucb", 2, 50),
    ("falling epsilon", 5, 50),
    ("centred", 3, 50),
]
# The kernel of whole ticks is the same for all of them but for the phases that it calls.
WHOLE = ["q_learning", "double_q, several steps, visits, masks, ucb", "centred"]
ROUTES = [
    *(pytest.param(by_phase, *case) for case in ONE_BATCH + SEVERAL_BATCHES),
    *(
        pytest.param(make_exchange, *case, marks=[] if case[0] in WHOLE else [pytest.mark.soak])
        for case in ONE_BATCH
    ),
    # Their kernel of whole ticks is another one.
    *(pytest.param(make_exchange, *case) for case in SEVERAL_BATCHES),
]


@pytest.mark.parametrize(("route", "case", "batches", "states"), ROUTES)
def test_the_table_is_the_references_table_bit_for_bit(route, case, batches, states):
    learning, exploration, masked = CASES[case]
    kwargs = {**make_job.GARNET["kwargs"], "states": states, "branching": min(5, states)}
    environment = {**make_job.GARNET, "kwargs": kwargs, "max_episode_steps": 9}
    job = make_job.make(
        environment,
        learning={"gamma": GAMMA, **learning},
        exploration=exploration,
        mode={"batches": batches},
    )
    found = resolve(job.environment)
    found = dataclasses.replace(
        found,
        legal=some_legal if masked else None,
        self_play=rules.traits(job)["self_play"],
    )
    given = learning.get("learning_rate", 0.5)
    parameter = next((v for k, v in exploration.items() if k != "policy"), None)
    expected = reference.learn(
        found.model,
        environments=environment["count"],
        ticks=TICKS,
        seed=3,
        gamma=GAMMA,
        q_init=learning.get("q_init", 0.0),
        limit=9,
        rate=rate_of(given),
        **rules.traits(job),
        policy=job.exploration.policy,
        parameter=None if parameter == BY_EPISODES else lambda step: rate_of(parameter)(0, step),
        by_episodes=(lambda n: max(0.05, 0.9 * 0.8**n)) if parameter == BY_EPISODES else None,
        n_step=job.learning.n_step,
        decay=job.learning.trace_decay,
        legal=some_legal_actions if masked else None,
        batches=batches,
        centring=float(learning.get("centring", 0.0)),
    )
    keys = np.array(list(expected), np.uint64)
    learner = LockstepLearner(job, found, MPI.COMM_SELF, route)
    learner.begin()
    for _ in range(TICKS):
        learner.advance()
    rows = {
        key: learner.shard.row(int(hash_)).tolist()
        for key, hash_ in zip(expected, mix64.py_func(keys), strict=True)
    }
    assert len(learner.shard) == len(expected)
    assert rows == expected
