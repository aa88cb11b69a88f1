"""Every rule and policy against the second implementation in support/reference.py, bit for bit."""

import dataclasses

import make_job
import numpy as np
import pytest
import reference
import rules
from mpi4py import MPI

from hpcq.envs.protocol import kernel
from hpcq.envs.resolve import resolve
from hpcq.hashing import mix64
from hpcq.learning.lockstep import LockstepLearner

ACTIONS = 3
TICKS = 120
VISITS = {"schedule": "visits", "exponent": 0.7, "start": 0.9, "end": 0.2}
FALLING = {"schedule": "linear", "start": 0.8, "end": 0.1, "steps": 1000}


@kernel
def some_legal(model, key):
    """Every action by itself, pairs, and all: by the key."""
    return np.uint64(1) + key % np.uint64(7)


def some_legal_actions(s):
    return [a for a in range(ACTIONS) if (1 + s % 7) >> a & 1]


def rate_of(schedule):
    if not isinstance(schedule, dict):
        return lambda n, step: schedule
    start, end = schedule["start"], schedule["end"]
    if schedule["schedule"] == "visits":
        return lambda n, step: max(end, start * (1.0 + n) ** -schedule["exponent"])
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
}


@pytest.mark.parametrize("case", CASES)
def test_the_table_is_the_references_table_bit_for_bit(case):
    learning, exploration, masked = CASES[case]
    environment = {**make_job.GARNET, "max_episode_steps": 9}
    job = make_job.make(environment, learning={"gamma": 0.9, **learning}, exploration=exploration)
    found = resolve(job.environment)
    found = dataclasses.replace(
        found,
        legal=some_legal if masked else None,
        self_play=rules.traits(job)["self_play"],
    )
    learner = LockstepLearner(job, found, MPI.COMM_SELF)
    learner.begin()
    for _ in range(TICKS):
        learner.advance()
    given = learning.get("learning_rate", 0.5)
    parameter = next((v for k, v in exploration.items() if k != "policy"), None)
    expected = reference.learn(
        found.model,
        environments=environment["count"],
        ticks=TICKS,
        seed=3,
        gamma=0.9,
        q_init=learning.get("q_init", 0.0),
        limit=9,
        rate=rate_of(given),
        **rules.traits(job),
        policy=job.exploration.policy,
        parameter=(lambda step: rate_of(parameter)(0, step)),
        n_step=job.learning.n_step,
        decay=job.learning.trace_decay,
        legal=some_legal_actions if masked else None,
    )
    keys = np.array(list(expected), np.uint64)
    rows = {
        key: learner.shard.row(int(hash_)).tolist()
        for key, hash_ in zip(expected, mix64.py_func(keys), strict=True)
    }
    assert len(learner.shard) == len(expected)
    assert rows == expected
