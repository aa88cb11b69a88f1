"""Four of Gymnasium's classic control problems, compiled, with observations in bins.

The equations and constants are those of Gymnasium's CartPole-v1, MountainCar-v0, Acrobot-v1 and
Pendulum-v1, in double precision. The state is continuous; its key is the bin of each of its
numbers. Bins are of equal width between bounds; the outermost ones have no outer limit. `state_of`
turns an observation of Gymnasium's own environment into such a state, so that a learned table can
be used there.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.protocol import ContinuousEnvironment, integer
from hpcq.errors import JobError
from hpcq.jit.compiler import inlined, kernel
from hpcq.rng import second_draw, unit_interval
from hpcq.spaces.actions import numbered

State = NDArray[np.float64]


class Bins(NamedTuple):
    """The parameters of a control problem: bins, start states, actions."""

    low: NDArray[np.float64]
    """(k,), lower bounds"""
    width: NDArray[np.float64]
    """(k,), of a bin"""
    bins: NDArray[np.int64]
    """(k,), how many"""
    start_low: NDArray[np.float64]
    """(k,), episodes start uniformly from here ..."""
    start_high: NDArray[np.float64]
    """(k,), ... to here"""
    actions: int


@inlined
def _bin(model: Any, i: int, value: Any) -> Any:
    place: Any = np.int64(np.floor((value - model.low[i]) / model.width[i]))
    return min(max(place, 0), model.bins[i] - 1)


@kernel
def observe(model: Any, state: State) -> Any:
    """Return the mixed-radix number of the bins."""
    key = np.uint64(0)
    for i in range(model.low.size):
        key = key * np.uint64(model.bins[i]) + np.uint64(_bin(model, i, state[i]))
    return key


@kernel
def observe_pendulum(model: Any, state: State) -> Any:
    """Return the bins' number; the angle counts from the top, in -pi ... pi."""
    angle = (state[0] + np.pi) % (2 * np.pi) - np.pi
    return np.uint64(_bin(model, 0, angle) * model.bins[1] + _bin(model, 1, state[1]))


@kernel
def reset(model: Any, state: State, draw: np.uint64) -> None:
    """Start uniformly between the model's bounds."""
    for i in range(model.low.size):
        u = unit_interval(draw)
        state[i] = model.start_low[i] + u * (model.start_high[i] - model.start_low[i])
        draw = second_draw(draw)


@kernel
def step_cartpole(model: Any, state: State, action: int, draw: np.uint64) -> Any:
    """Push the cart left (0) or right (1) for 0.02 s. Barto, Sutton, Anderson, 1983."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    force = 10.0 if action == 1 else -10.0
    cos, sin = np.cos(theta), np.sin(theta)
    push = (force + 0.05 * theta_dot**2 * sin) / 1.1
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    x_acc = push - 0.05 * theta_acc * cos / 1.1
    state[0] = x + 0.02 * x_dot
    state[1] = x_dot + 0.02 * x_acc
    state[2] = theta + 0.02 * theta_dot
    state[3] = theta_dot + 0.02 * theta_acc
    fallen = abs(state[0]) > 2.4 or abs(state[2]) > 12 * 2 * np.pi / 360
    return 1.0, fallen


@kernel
def step_mountain_car(model: Any, state: State, action: int, draw: np.uint64) -> Any:
    """Accelerate to the left (0), not at all (1), or to the right (2). Moore, 1990."""
    velocity = state[1] + (action - 1) * 0.001 - 0.0025 * np.cos(3 * state[0])
    velocity = min(max(velocity, -0.07), 0.07)
    position = min(max(state[0] + velocity, -1.2), 0.6)
    if position == -1.2 and velocity < 0:
        velocity = 0.0
    state[0], state[1] = position, velocity
    return -1.0, position >= 0.5 and velocity >= 0


@kernel
def _acrobot_slopes(theta1: Any, theta2: Any, speed1: Any, speed2: Any, torque: Any) -> Any:
    """Return both angular accelerations: masses and lengths 1, centres 0.5, inertia 1."""
    d1 = 0.25 + (1.25 + np.cos(theta2)) + 2.0
    d2 = 0.25 + 0.5 * np.cos(theta2) + 1.0
    phi2 = 0.5 * 9.8 * np.cos(theta1 + theta2 - np.pi / 2)
    phi1 = (
        -0.5 * speed2**2 * np.sin(theta2)
        - speed2 * speed1 * np.sin(theta2)
        + 1.5 * 9.8 * np.cos(theta1 - np.pi / 2)
        + phi2
    )
    acc2 = (torque + d2 / d1 * phi1 - 0.5 * speed1**2 * np.sin(theta2) - phi2) / (1.25 - d2**2 / d1)
    return -(d2 * acc2 + phi1) / d1, acc2


@kernel
def _wrapped(angle: Any) -> Any:
    """Return the angle in -pi ... pi."""
    while angle > np.pi:
        angle -= 2 * np.pi
    while angle < -np.pi:
        angle += 2 * np.pi
    return angle


@kernel
def step_acrobot(model: Any, state: State, action: int, draw: np.uint64) -> Any:
    """Apply torque -1, 0 or 1 between the links for 0.2 s, Runge-Kutta. Sutton, 1996."""
    torque = np.float64(action - 1)
    a, b, c, d = state[0], state[1], state[2], state[3]
    p1, q1 = _acrobot_slopes(a, b, c, d, torque)
    c2, d2 = c + 0.1 * p1, d + 0.1 * q1
    p2, q2 = _acrobot_slopes(a + 0.1 * c, b + 0.1 * d, c2, d2, torque)
    c3, d3 = c + 0.1 * p2, d + 0.1 * q2
    p3, q3 = _acrobot_slopes(a + 0.1 * c2, b + 0.1 * d2, c3, d3, torque)
    c4, d4 = c + 0.2 * p3, d + 0.2 * q3
    p4, q4 = _acrobot_slopes(a + 0.2 * c3, b + 0.2 * d3, c4, d4, torque)
    sixth = 0.2 / 6.0
    state[0] = _wrapped(a + sixth * (c + 2 * c2 + 2 * c3 + c4))
    state[1] = _wrapped(b + sixth * (d + 2 * d2 + 2 * d3 + d4))
    state[2] = min(max(c + sixth * (p1 + 2 * p2 + 2 * p3 + p4), -4 * np.pi), 4 * np.pi)
    state[3] = min(max(d + sixth * (q1 + 2 * q2 + 2 * q3 + q4), -9 * np.pi), 9 * np.pi)
    up = -np.cos(state[0]) - np.cos(state[1] + state[0]) > 1.0
    return 0.0 if up else -1.0, up


@kernel
def step_pendulum(model: Any, state: State, action: int, draw: np.uint64) -> Any:
    """Apply one of evenly spaced torques in -2 ... 2 for 0.05 s."""
    torque = -2.0 + 4.0 * action / (model.actions - 1)
    theta, speed = state[0], state[1]
    angle = (theta + np.pi) % (2 * np.pi) - np.pi
    cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
    speed += (15.0 * np.sin(theta) + 3.0 * torque) * 0.05
    speed = min(max(speed, -8.0), 8.0)
    state[0] = theta + speed * 0.05
    state[1] = speed
    return -cost, False


def _make(
    id_: str,
    step: Any,
    low: list[float],
    high: list[float],
    start: tuple[list[float], list[float]],
    bins: Sequence[int],
    anywhere: bool,
    actions: int,
    limit: int,
    observe: Any = observe,
    action: dict[str, Any] | None = None,
) -> ContinuousEnvironment:
    if not isinstance(bins, list | tuple) or len(bins) != len(low):
        raise JobError(f"{id_}: bins = {bins!r}, expected a list of {len(low)} integers")
    for count in bins:
        integer(id_, "bins", count, 1, 100_000)
    if not isinstance(anywhere, bool):
        raise JobError(f"{id_}: anywhere = {anywhere!r}, expected true or false")
    start_low, start_high = (low, high) if anywhere else start
    model = Bins(
        np.array(low),
        (np.array(high) - np.array(low)) / np.array(bins),
        np.array(bins, np.int64),
        np.array(start_low),
        np.array(start_high),
        actions,
    )
    observation = {"kind": "MultiDiscrete", "nvec": list(bins), "start": [0] * len(bins)}
    return ContinuousEnvironment(
        id_,
        observation,
        actions,
        action or numbered(actions),
        model,
        reset,
        step,
        limit,
        observe,
        len(low),
    )


def cartpole(
    max_episode_steps: int | None,
    *,
    bins: Sequence[int] = (6, 12, 16, 16),
    anywhere: bool = False,
) -> ContinuousEnvironment:
    """Return CartPole-v1, compiled: job id ``hpcq/CartPole-v0``.

    `bins` of position, velocity, angle, angular velocity; `anywhere`: start in any state.
    """
    angle = 12 * 2 * math.pi / 360
    low, high = [-2.4, -3.0, -angle, -3.0], [2.4, 3.0, angle, 3.0]
    start = [-0.05] * 4, [0.05] * 4
    limit = max_episode_steps or 500
    return _make("hpcq/CartPole-v0", step_cartpole, low, high, start, bins, anywhere, 2, limit)


def mountain_car(
    max_episode_steps: int | None,
    *,
    bins: Sequence[int] = (128, 128),
    anywhere: bool = False,
) -> ContinuousEnvironment:
    """Return MountainCar-v0, compiled: job id ``hpcq/MountainCar-v0``.

    `bins` of position and velocity; `anywhere`: start in any state.
    """
    low, high = [-1.2, -0.07], [0.6, 0.07]
    start = [-0.6, 0.0], [-0.4, 0.0]
    limit = max_episode_steps or 200
    return _make(
        "hpcq/MountainCar-v0", step_mountain_car, low, high, start, bins, anywhere, 3, limit
    )


def acrobot(
    max_episode_steps: int | None,
    *,
    bins: Sequence[int] = (24, 24, 24, 24),
    anywhere: bool = False,
) -> ContinuousEnvironment:
    """Return Acrobot-v1, compiled: job id ``hpcq/Acrobot-v0``.

    `bins` of both angles and both angular velocities; `anywhere`: start in any state.
    """
    high = [math.pi, math.pi, 6.0, 9.0]
    start = [-0.1] * 4, [0.1] * 4
    limit = max_episode_steps or 500
    return _make(
        "hpcq/Acrobot-v0", step_acrobot, [-x for x in high], high, start, bins, anywhere, 3, limit
    )


def pendulum(
    max_episode_steps: int | None,
    *,
    bins: Sequence[int] = (101, 101),
    torques: int = 5,
    anywhere: bool = False,
) -> ContinuousEnvironment:
    """Return Pendulum-v1, compiled: job id ``hpcq/Pendulum-v0``.

    `bins` of angle and angular velocity; `torques` evenly spaced in -2 ... 2; `anywhere`: start in
    any state.
    """
    id_ = "hpcq/Pendulum-v0"
    integer(id_, "torques", torques, 2, 1000)
    high = [math.pi, 8.0]
    start = [-math.pi, -1.0], [math.pi, 1.0]
    limit = max_episode_steps or 200
    return _make(
        id_,
        step_pendulum,
        [-x for x in high],
        high,
        start,
        bins,
        anywhere,
        torques,
        limit,
        observe_pendulum,
        {"dtype": "float32", "shape": [1], "values": [np.linspace(-2, 2, torques).tolist()]},
    )


def state_of(environment: ContinuousEnvironment, observation: Any) -> NDArray[np.float64]:
    """Return the state (k,) that belongs to an observation of Gymnasium's environment."""
    values = np.asarray(observation, np.float64)
    if environment.id == "hpcq/Acrobot-v0":
        angles = np.arctan2(values[1], values[0]), np.arctan2(values[3], values[2])
        return np.array([*angles, values[4], values[5]])
    if environment.id == "hpcq/Pendulum-v0":
        return np.array([np.arctan2(values[1], values[0]), values[2]])
    return values
