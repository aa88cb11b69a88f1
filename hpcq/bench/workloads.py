"""The problems of the benchmarks, as jobs and compiled environments."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.hashing import mix64
from hpcq.jit.compiler import kernel
from hpcq.job.job import Job
from hpcq.rng import unit_interval
from hpcq.spaces.actions import numbered


class Walk(NamedTuple):
    """Parameters of the synthetic walks over `states` = 2**(64 - shift) states."""

    shift: np.uint64
    log_states: float


Transition = tuple[np.uint64, float, bool]


@kernel
def reset(model: Walk, draw: np.uint64) -> np.uint64:
    """Start anywhere."""
    return mix64(draw) >> model.shift


@kernel
def mixed_step(model: Walk, key: np.uint64, action: int, draw: np.uint64) -> Transition:
    """Go to a hash of (state, action): memory access is random, the problem deterministic."""
    following = mix64((key << np.uint64(3)) + np.uint64(action)) >> model.shift
    return following, unit_interval(following << model.shift), False


@kernel
def drawn_step(model: Walk, key: np.uint64, action: int, draw: np.uint64) -> Transition:
    """Go to a random state, whatever the action: mostly to a new one if there are many."""
    return mix64(draw) >> model.shift, unit_interval(draw), False


@kernel
def skewed_step(model: Walk, key: np.uint64, action: int, draw: np.uint64) -> Transition:
    """Go to state k with probability proportional to 1 / k (Zipf's law, exponent 1)."""
    following = np.uint64(np.exp(unit_interval(draw) * model.log_states)) - np.uint64(1)
    return following, 1.0, False


@dataclass(frozen=True)
class Workload:
    """A job with its environment; `states` to fill the table with before measuring (0: none)."""

    name: str
    job: Job
    environment: CompiledEnvironment
    states: int


_WALKS: dict[str, tuple[int, Any, bool]] = {
    "dram": (25, mixed_step, True),
    "cache": (14, mixed_step, True),
    "insert": (60, drawn_step, False),
    "skew": (25, skewed_step, True),
}


def _walk(name: str) -> tuple[CompiledEnvironment, int]:
    bits, step, filled = _WALKS[name]
    states = 1 << bits
    model = Walk(np.uint64(64 - bits), math.log(states))
    observation = {"kind": "Discrete", "n": states, "start": 0}
    environment = CompiledEnvironment(name, observation, 4, numbered(4), model, reset, step, None)
    return environment, states if filled else 0


def workload(name: str, environments: int, batches: int = 1) -> Workload:
    """Return a workload, one of `_WALKS` or taxi, with so many environments over all ranks."""
    taxi = name == "taxi"
    job = Job.check(
        {
            "name": name,
            "environment": {"id": "Taxi-v4" if taxi else name, "count": environments},
            "learning": {"gamma": 0.99, "learning_rate": 0.1, "dtype": "float32"},
            "exploration": {"epsilon": 0.1},
            "mode": {"batches": batches},
            "run": {"steps": 1, "seed": 1},
        },
        "bench",
    )
    if not taxi:
        return Workload(name, job, *_walk(name))
    environment = resolve(job.environment)
    assert isinstance(environment, CompiledEnvironment)
    return Workload(name, job, environment, environment.observation["n"])
