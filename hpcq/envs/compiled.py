"""The protocol of environments that run inside hpcq's kernels.

Two functions, compiled with `hpcq.kernels.kernel`:

    reset(model, draw)             -> key
    step(model, key, action, draw) -> (key, reward, terminated)

`key` (uint64) is the state and its key in the table at once, `action` an int64 from 0 on, `draw`
a uint64 that is all the randomness of this call (`hashing.unit_interval` makes a float64 of it).
`model` is a NamedTuple of arrays and numbers, the parameters of the environment: data, so that
other parameters need no other compilation. Time limits are hpcq's, not the environment's.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CompiledEnvironment:
    """A compiled environment and what the rest of hpcq needs to know of it."""

    id: str
    observation: dict[str, Any]
    """the observation space, as `codec.describe` gives it"""
    actions: int
    action_start: int
    model: Any
    reset: Any
    step: Any
    max_episode_steps: int | None
    """an episode is truncated after so many steps; None: never"""
