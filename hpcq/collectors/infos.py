"""Numbers that environments give in their infos, followed over each episode: for reports only.

Of an episode the last value of a key counts (whether it was a success), and the sum of its values
(what it cost). A step that gives none leaves both as they are.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of `EpisodeInfos.stats`.
COLUMNS = 3


class EpisodeInfos:
    """The numbers of several environments, in episodes that go on.

    Parameters
    ----------
    keys
        of the infos.
    count
        environments.

    Attributes
    ----------
    values : float64 array
        (count, keys), of the last step; nan: it gave none
    last, sums : float64 arrays
        (count, keys), of the episode so far; `last` is nan where there was none
    stats : float64 array
        (keys, COLUMNS): episodes ended that gave a value, their last values added up, and their
        sums; since it was last cleared
    """

    def __init__(self, keys: tuple[str, ...], count: int) -> None:
        self.keys = keys
        self.values, self.last = (np.full((count, len(keys)), np.nan) for _ in range(2))
        self.sums = np.zeros((count, len(keys)))
        self.stats = np.zeros((len(keys), COLUMNS))

    def add(self, values: NDArray[np.float64], going: Any = True) -> None:
        """Add the values of a step in the environments that are `going`."""
        given = ~np.isnan(values) & going
        np.copyto(self.last, values, where=given)
        self.sums += np.where(given, values, 0.0)

    def end(self, places: Any) -> None:
        """Count the episodes of the environments `places` as ended."""
        self.stats += totals(self.last[places], self.sums[places])
        self.clear(places)

    def clear(self, places: Any = slice(None)) -> None:
        """Forget the episodes of the environments `places`."""
        self.last[places], self.sums[places] = np.nan, 0.0


def totals(last: NDArray[np.float64], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (keys, COLUMNS) of ended episodes, see `EpisodeInfos.stats`."""
    given = ~np.isnan(last)
    found = given.sum(axis=0), np.where(given, last, 0.0).sum(axis=0), sums.sum(axis=0)
    return np.stack(found, axis=1)


def means(keys: tuple[str, ...], stats: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the mean last value of each key, and the mean sum; None where no episode gave one."""
    found: dict[str, float | None] = {}
    for key, (episodes, last, total) in zip(keys, stats.tolist(), strict=True):
        found[f"info_{key}"] = last / episodes if episodes else None
        found[f"info_{key}_sum"] = total / episodes if episodes else None
    return found


def names(keys: Iterable[str]) -> list[str]:
    """Return what `means` calls its values."""
    return [f"info_{key}{ending}" for key in keys for ending in ("", "_sum")]


def value_of(info: Any, key: str) -> Any:
    """Return a value of an info; `a.b` is also info["a"]["b"]; None where there is none."""
    if key in info:
        return info[key]
    for part in key.split("."):
        info = info.get(part) if isinstance(info, dict) else None
    return info
