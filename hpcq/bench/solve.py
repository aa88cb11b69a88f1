"""An exact solution, and beside it what others take for the same model: SciPy, QuantEcon."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment, compiled_environment
from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import inlined
from hpcq.mpi import first_on_each_node
from hpcq.solver.export import arrays_of
from hpcq.solver.iteration import Solution
from hpcq.solver.space import StateSpace
from hpcq.solver.warmup import warm_up

MODELS = ("random", "maze")

_ROWS = 256


class Random(NamedTuple):
    """A random model without arrays of its size: successors are hashes, probabilities are shared.

    Archibald, McKinnon and Thomas, 1995, as Garnet; see `envs.tabular.garnet`.
    """

    states: np.uint64
    probability: NDArray[np.float64]
    """(_ROWS, outcomes)"""
    reward: NDArray[np.float64]


@inlined
def _anywhere(model: Any, i: int) -> Any:
    return 1.0 / np.float64(model.states), np.uint64(i)


@inlined
def _random_outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
    hash_ = mix64((key << np.uint64(16)) + np.uint64(action))
    row = np.int64(hash_ & np.uint64(_ROWS - 1))
    following = hi64(mix64(hash_ + np.uint64(k)), model.states)
    return model.probability[row, k], following, model.reward[row], False


def _random(states: int, actions: int, outcomes: int) -> CompiledEnvironment:
    rng = np.random.default_rng(1)
    cuts = np.sort(rng.random((_ROWS, outcomes - 1)), axis=1)
    edges = np.concatenate([np.zeros((_ROWS, 1)), cuts, np.ones((_ROWS, 1))], axis=1)
    model = Random(np.uint64(states), np.diff(edges, axis=1), rng.standard_normal(_ROWS))
    return compiled_environment(
        observation=states,
        actions=actions,
        outcome=_random_outcome,
        outcomes=outcomes,
        start=_anywhere,
        starts=states,
        model=model,
    )


class Maze(NamedTuple):
    """A square field without walls: a move slips one time in five, the corner pays 1 a step."""

    states: np.uint64
    width: np.int64


@inlined
def _maze_outcome(model: Any, key: np.uint64, action: int, k: int) -> Any:
    row, column = np.int64(key) // model.width, np.int64(key) % model.width
    move = action if k == 0 else (action + k) % 4
    row = min(max(row + (move == 1) - (move == 0), 0), model.width - 1)
    column = min(max(column + (move == 3) - (move == 2), 0), model.width - 1)
    reward = 1.0 if key == np.uint64(0) else 0.0
    return 0.8 if k == 0 else 0.1, np.uint64(row * model.width + column), reward, False


def _maze(states: int, actions: int, outcomes: int) -> CompiledEnvironment:
    width = int(states**0.5)
    return compiled_environment(
        observation=width * width,
        actions=4,
        outcome=_maze_outcome,
        outcomes=3,
        start=_anywhere,
        starts=width * width,
        model=Maze(np.uint64(width * width), np.int64(width)),
    )


def environment_of(model: str, states: int, actions: int, outcomes: int) -> CompiledEnvironment:
    """Return one of `MODELS`, with so many states."""
    return {"random": _random, "maze": _maze}[model](states, actions, outcomes)


def measure(
    comm: MPI.Intracomm,
    model: str,
    states: int,
    actions: int,
    outcomes: int,
    gamma: float,
    tolerance: float,
    method: str,
) -> dict[str, Any]:
    """Return the seconds that hpcq takes, and for what. Collective."""
    environment = environment_of(model, states, actions, outcomes)
    with first_on_each_node(comm):
        warm_up(environment)
    clock = time.perf_counter
    comm.Barrier()
    start = clock()
    space = StateSpace(comm, environment)
    for _ in space.levels(space.begin(), lambda: None):
        pass
    comm.Barrier()
    found = clock()
    solution = Solution(space, gamma, False, method, tolerance)
    for _ in solution.steps(lambda: None):
        pass
    comm.Barrier()
    solved = clock()
    value = comm.allreduce(solution.value.sum()) / comm.allreduce(space.states)
    bound, (_, total) = solution.step.bound, space.totals()
    sweeps = solution.time_sweeps(3)
    return {
        "model": model,
        "ranks": comm.size,
        "states": comm.allreduce(space.states),
        "outcomes": total,
        "explore_seconds": found - start,
        "solve_seconds": solved - found,
        "sweeps": solution.step.sweeps,
        "evaluations": solution.step.evaluations,
        "bound": bound,
        "ns_per_outcome_and_sweep": 1e9 * sweeps / total,
        "gib_per_rank": comm.allreduce(space.nbytes + solution.nbytes, MPI.MAX) / 2**30,
        "value": float(value),
    }


def peers(
    model: str, states: int, actions: int, outcomes: int, gamma: float, tolerance: float
) -> dict[str, dict[str, float]]:
    """Return the seconds and mean values of other programs, of those that are installed."""
    environment = environment_of(model, states, actions, outcomes)
    space = StateSpace(MPI.COMM_SELF, environment)
    for _ in space.levels(space.begin(), lambda: None):
        pass
    arrays = arrays_of(space)
    found: dict[str, dict[str, float]] = {}
    for package, solve in (("scipy", _scipy), ("quantecon", _quantecon)):
        if find_spec(package) is not None:
            take_in, value, seconds = solve(arrays, space.actions, gamma, tolerance)
            found[package] = {
                "take_in_seconds": take_in,
                "solve_seconds": seconds,
                "value": float(value.mean()),
            }
    return found


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = function()
    return found, time.perf_counter() - start


def _matrix(arrays: dict[str, NDArray]) -> tuple[Any, NDArray]:
    from scipy import sparse

    rows, states = arrays["indptr"].size - 1, arrays["start"].size
    matrix = sparse.csr_matrix(
        (arrays["probability"], arrays["next"].astype(np.int32), arrays["indptr"]), (rows, states)
    )
    return matrix, arrays["reward"][arrays["indptr"][:-1]]


def _scipy(
    arrays: dict[str, NDArray], actions: int, gamma: float, tolerance: float
) -> tuple[float, NDArray, float]:
    """Iterate values over a CSR matrix until the span bound holds."""
    (matrix, reward), take_in = _timed(lambda: _matrix(arrays))

    def solve() -> NDArray:
        value = np.zeros(matrix.shape[1])
        while True:
            new = (reward + gamma * (matrix @ value)).reshape(-1, actions).max(axis=1)
            change = new - value
            value = new
            low, high = change.min() * gamma / (1 - gamma), change.max() * gamma / (1 - gamma)
            if (high - low) / 2 <= tolerance:
                return value + (high + low) / 2

    value, seconds = _timed(solve)
    return take_in, value, seconds


def _quantecon(
    arrays: dict[str, NDArray], actions: int, gamma: float, tolerance: float
) -> tuple[float, NDArray, float]:
    from quantecon.markov import DiscreteDP

    def take_in() -> Any:
        matrix, reward = _matrix(arrays)
        states = np.repeat(np.arange(matrix.shape[1]), actions)
        return DiscreteDP(
            reward, matrix, gamma, states, np.tile(np.arange(actions), matrix.shape[1])
        )

    problem, taken = _timed(take_in)
    solved, seconds = _timed(
        lambda: problem.solve(method="modified_policy_iteration", epsilon=2 * tolerance)
    )
    return taken, solved.v, seconds


def text_of(found: dict[str, Any]) -> str:
    """Return the measurement as text."""
    total = found["explore_seconds"] + found["solve_seconds"]
    lines = [
        f"{found['model']}: {found['states']:,} states, {found['outcomes']:,} outcomes, "
        f"{found['ranks']} rank{'s' * (found['ranks'] > 1)}, {found['gib_per_rank']:.2f} GiB each",
        f"hpcq       {total:8.2f} s: {found['explore_seconds']:.2f} s to find states and outcomes, "
        f"{found['solve_seconds']:.2f} s to within {found['bound']:.2g} "
        f"({found['sweeps']} sweeps, {found['evaluations']} of the policy)",
        f"a sweep    {found['ns_per_outcome_and_sweep']:8.2f} ns per outcome",
    ]
    for name, one in found.get("peers", {}).items():
        lines.append(
            f"{name:10} {one['solve_seconds']:8.2f} s, and {one['take_in_seconds']:.2f} s to take "
            f"the arrays in; mean value {one['value']:.6g}, hpcq's {found['value']:.6g}"
        )
    return "\n".join(lines)
