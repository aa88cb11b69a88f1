"""Exact solutions of table models: the reference for tests and for a run's summary.

    V(s) = max_a sum_k p(k | s, a) (r_k + gamma * [not terminated_k] * V(s'_k))

and the fixed points of rules that bootstrap from other values than the maximum.

Bellman, "Dynamic Programming", 1957; Puterman, "Markov Decision Processes", 1994, section 6.3.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcq.envs.tabular import TableModel

Array = NDArray[np.float64]


def action_values(model: TableModel, value: Array, gamma: float) -> Array:
    """Return Q (S, A): one step by the model, then `value` (S,) discounted."""
    future = np.where(model.terminated, 0.0, gamma * value[model.next])
    return np.einsum("sak,sak->sa", model.probability, model.reward + future)


def value_iteration(
    model: TableModel,
    gamma: float,
    tolerance: float = 1e-12,
    sweeps: int = 100_000,
    legal: NDArray[np.bool_] | None = None,
) -> Array | None:
    """Return Q* (S, A) to within `tolerance` times the largest |Q|; None if not in `sweeps`.

    With gamma = 1 it converges where every policy worth considering terminates.

    Parameters
    ----------
    legal
        (S, A), the actions to choose from; the others are -inf in what is returned.
    """

    def best(q: Array) -> Array:
        return q.max(axis=1)

    if legal is None:
        return fixed_point(model, gamma, best, tolerance, sweeps)

    def best_legal(q: Array) -> Array:
        return np.where(legal, q, -np.inf).max(axis=1)

    q = fixed_point(model, gamma, best_legal, tolerance, sweeps)
    return None if q is None else np.where(legal, q, -np.inf)


def fixed_point(
    model: TableModel,
    gamma: float,
    worth: Callable[[Array], Array],
    tolerance: float = 1e-12,
    sweeps: int = 100_000,
) -> Array | None:
    """Return Q (S, A) with Q = one step by the model, then `worth(Q)` (S,); see `value_iteration`.

    What the rules converge to: `worth` is the maximum for Q-learning, and for SARSA and Expected
    SARSA the mean under their policy (Sutton and Barto, 2018, sections 6.4 and 6.6). `worth` must
    not spread values further apart than they are.
    """
    value = np.zeros(model.start.size)
    # The error is at most change * gamma / (1 - gamma).
    strictness = tolerance * (1 - gamma if gamma < 1 else 1.0)
    for _ in range(sweeps):
        new = worth(action_values(model, value, gamma))
        change = np.abs(new - value).max()
        value = new
        if change <= max(strictness, 4e-16) * max(1.0, np.abs(value).max()):
            return action_values(model, value, gamma)
    return None


def greedy(q: Array, tolerance: float = 0.0) -> Array:
    """Return the greedy policy (S, A): uniform over the actions within `tolerance` of the best."""
    best = q >= q.max(axis=1, keepdims=True) - tolerance
    return best / best.sum(axis=1, keepdims=True)


def policy_values(model: TableModel, policy: Array, gamma: float) -> Array:
    """Return Q (S, A) of a policy (S, A), from the linear system; needs gamma < 1 or an end.

    Raises
    ------
    numpy.linalg.LinAlgError
        if the policy can go on for ever and gamma is 1.
    """
    states = model.start.size
    weight = model.probability * ~model.terminated
    move = np.zeros((states, states))
    rows = np.broadcast_to(np.arange(states)[:, None, None], model.next.shape)
    np.add.at(move, (rows, model.next), policy[:, :, None] * weight)
    expected = np.einsum("sak,sak->sa", model.probability, model.reward)
    reward = np.einsum("sa,sa->s", policy, expected)
    value = np.linalg.solve(np.eye(states) - gamma * move, reward)
    return action_values(model, value, gamma)


def expected_return(model: TableModel, policy: Array, horizon: int) -> float:
    """Return the expected undiscounted return of an episode of at most `horizon` steps.

    Backward induction, averaged over the start distribution; finite for every policy, also for
    one that never comes to an end.
    """
    value = np.zeros(model.start.size)
    for _ in range(horizon):
        value = np.einsum("sa,sa->s", policy, action_values(model, value, 1.0))
    return float(model.start @ value)
