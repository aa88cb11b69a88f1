"""Centred rewards: their mean, estimated while learning, is subtracted from each of them.

    delta = r - rbar + gamma max_b q(s', b) - q(s, a)
    rbar += eta * mean change of a value in a tick, learning rate * delta in an update

Near gamma = 1 values are large and nearly alike: rbar / (1 - gamma) is in all of them, and plain
learning brings it to every state bit by bit. Here one number takes it up at once. Values in the
table are relative: Q = q + rbar / (1 - gamma). Naik, Wan, Tomar, Sutton, "Reward Centering", 2024
(arXiv 2405.09999). With gamma = 1 it is differential Q-learning, where rbar becomes the average
reward of the best policy: Wan, Naik, Sutton, "Learning and Planning in Average-Reward Markov
Decision Processes", ICML 2021.

The mean is over the updates of a tick; where it has more of them than the table has values, over
these: each is then updated several times. Each rank adds up the changes that its updates made, as
integers, so that their order does not matter. The sums of all ranks travel with the counts of the
next tick; then every rank moves its rbar, by the same amount.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcq.exchange.base import CHANGE, VALUES
from hpcq.jit.compiler import inlined

# Numbers of `Centre.numbers`:
#   RATE     rbar
#   SPEED    eta
#   UPDATES  of a tick, over all ranks
#   SCALE    an integer of a sum is so many times the change
#   LIMIT    the largest integer of an update
#   ENDED    not 0: an episode has terminated, although rewards are centred
#   HORIZON  1 / (1 - gamma): so many times rbar is what Q has above the values in the table
RATE, SPEED, UPDATES, SCALE, LIMIT, ENDED, HORIZON = range(7)

# A sum stays below 2 ** 62.
_LIMIT_BITS, _SUM_BITS = 16, 62


class Centre(NamedTuple):
    """The mean reward, and what changes it; the same type whether rewards are centred or not."""

    numbers: NDArray[np.float64]
    """(7,), see above"""
    changes: NDArray[np.int64]
    """(2,), the sum of the changes by this rank's updates since it was last sent; and the values
    in its rows"""


def make_centre(speed: float = 0.0, updates: int = 1, gamma: float = 1.0) -> Centre:
    """Return the mean reward before anything was learned.

    Parameters
    ----------
    speed
        eta; 0: it stays as it is.
    updates
        of a tick, over all ranks.
    gamma
        the discount; 1: values are relative, there is nothing to add to them.
    """
    scale = 2.0 ** (_SUM_BITS - _LIMIT_BITS - math.ceil(math.log2(updates)))
    horizon = 1.0 / (1.0 - gamma) if gamma < 1.0 else 0.0
    numbers = np.array([0.0, speed, updates, scale, scale * 2.0**_LIMIT_BITS, 0.0, horizon])
    return Centre(numbers, np.zeros(2, np.int64))


@inlined
def as_integer(change: float, scale: float, limit: float) -> Any:
    """Return the change of a value as part of a sum; 0 for one that is no number."""
    scaled = change * scale
    if abs(scaled) <= limit:
        return np.int64(np.rint(scaled))
    if scaled != scaled:
        return np.int64(0)
    return np.int64(math.copysign(limit, scaled))


@inlined
def follow(centre: Centre, counts: NDArray[np.int64]) -> None:
    """Move the mean reward by the sums of all ranks, once.

    counts   int64 (ranks, exchange.base.COLUMNS), from each rank
    """
    numbers, total, values = centre.numbers, 0, 0
    for source in range(counts.shape[0]):
        total += counts[source, CHANGE]
        values += counts[source, VALUES]
        counts[source, CHANGE] = 0
    if total != 0:
        several = min(numbers[UPDATES], np.float64(values))
        numbers[RATE] += numbers[SPEED] / several * (total / numbers[SCALE])
