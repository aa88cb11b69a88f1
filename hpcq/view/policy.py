"""The greedy policy of a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.view.table import Table

# Rows that are cached.
CACHED_ROWS = 1 << 16


class Policy:
    """Chooses the action of the largest Q-value, the first one of several equal ones.

    Rows are read from the file on demand. In a state that was never updated all values are
    `learning.q_init`, and the first legal action is chosen.

    Parameters
    ----------
    path
        a checkpoint, or a run directory: its newest checkpoint.

    Attributes
    ----------
    table : Table

    Raises
    ------
    CheckpointError
        for a file that is not a checkpoint.
    """

    def __init__(self, path: str | Path) -> None:
        self.table = Table(path)
        self._cache: dict[int, NDArray[np.floating] | None] = {}
        self._unseen = np.full(
            self.table.header.actions, self.table.q_init, self.table.header.dtype
        )

    def __call__(self, observation: Any, action_mask: Any = None) -> Any:
        """Return the action in a state, as the environment takes it.

        Parameters
        ----------
        action_mask
            which actions are legal, true or 1, (A,); default: those legal in the table.

        Raises
        ------
        JobError
            if the observation is not in the space, or the mask permits none of the A actions.
        """
        legal = None if action_mask is None else self._legal(action_mask)
        return self.table.actions.one(self.number(self.table.key(observation), legal))

    def _legal(self, action_mask: Any) -> NDArray[np.bool_]:
        legal, actions = np.asarray(action_mask, bool), self.table.header.actions
        if legal.shape != (actions,) or not legal.any():
            raise JobError(
                f"action_mask is {action_mask!r}, expected {actions} numbers 0 or 1, at least one "
                "of them 1"
            )
        return legal

    def number(self, key: int, legal: NDArray[np.bool_] | None = None) -> int:
        """Return the action number in the state of a key, one of the `legal` actions."""
        found = self.row(key)
        values = self._unseen if found is None else found
        if legal is None:
            return int(values.argmax())
        # Actions that are illegal in the table, at -inf, may be the only ones.
        choice = np.flatnonzero(legal)
        return int(choice[values[choice].argmax()])

    def values(self, observation: Any) -> NDArray[np.floating]:
        """Return the Q-values of a state, (A,); -inf for actions that are not legal there."""
        found = self.row(self.table.key(observation))
        return (self._unseen if found is None else found).copy()

    def row(self, key: int) -> NDArray[np.floating] | None:
        """Return the Q-values of a key; None where it was never updated."""
        if key not in self._cache:
            if len(self._cache) >= CACHED_ROWS:
                self._cache.clear()
            found = self.table.find(key)
            self._cache[key] = None if found is None else found.q[0]
        return self._cache[key]


def load_policy(path: str | Path) -> Policy:
    """Return the greedy policy of a checkpoint, or of a run directory; see `Policy`."""
    return Policy(path)
