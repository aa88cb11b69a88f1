"""The greedy policy of a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.view.table import Table

# Rows kept in memory: those of states that come again.
REMEMBERED = 1 << 16


class Policy:
    """Chooses the action of the largest Q-value, the first one where several are as good.

    Rows are read from the file as they are asked for; nothing is loaded. In a state that was never
    updated all values are `learning.q_init`, and the first legal action is chosen.

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
        self._remembered: dict[int, NDArray[np.floating] | None] = {}
        self._unseen = np.full(
            self.table.header.actions, self.table.q_init, self.table.header.dtype
        )

    def __call__(self, observation: Any, action_mask: Any = None) -> Any:
        """Return the action in a state, as the environment takes it.

        Parameters
        ----------
        action_mask
            which actions are legal, true or 1, (A,); default: all that the table knows as legal.

        Raises
        ------
        JobError
            if the observation is not in the space.
        """
        return self.table.actions.one(self.number(self.table.key(observation), action_mask))

    def number(self, key: int, action_mask: Any = None) -> int:
        """Return the action in the state of a key, from 0 on."""
        found = self.row(key)
        values = self._unseen if found is None else found
        if action_mask is not None:
            values = np.where(np.asarray(action_mask, bool), values, -np.inf)
        return int(values.argmax())

    def values(self, observation: Any) -> NDArray[np.floating]:
        """Return the Q-values of a state, (A,); -inf for actions that are not legal there."""
        found = self.row(self.table.key(observation))
        return (self._unseen if found is None else found).copy()

    def row(self, key: int) -> NDArray[np.floating] | None:
        """Return the Q-values of a key; None where it was never updated."""
        if key not in self._remembered:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            found = self.table.find(key)
            self._remembered[key] = None if found is None else found.q[0]
        return self._remembered[key]


def load_policy(path: str | Path) -> Policy:
    """Return the greedy policy of a checkpoint, or of a run directory; see `Policy`."""
    return Policy(path)
