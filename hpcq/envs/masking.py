"""Environments that give the legal actions within the observation."""

from typing import Any

import gymnasium

from hpcq.errors import JobError


class MaskFromObservation(gymnasium.Wrapper):
    """Moves one part of a Dict, the mask, from the observation to ``info["action_mask"]``.

    Raises
    ------
    JobError
        if the observation is no Dict with that key and another one.
    """

    def __init__(self, env: gymnasium.Env, key: str) -> None:
        super().__init__(env)
        self._key = key
        space = env.observation_space
        if (
            not isinstance(space, gymnasium.spaces.Dict)
            or key not in space.spaces
            or len(space) < 2
        ):
            raise JobError(
                f"environment.mask_key = {key!r}, but the observation space is {space}; expected a "
                "Dict with that key, and something else to observe"
            )
        self.observation_space = gymnasium.spaces.Dict(
            {name: part for name, part in space.spaces.items() if name != key}
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment."""
        return self._moved(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> Any:
        """Take a step."""
        return self._moved(self.env.step(action))

    def _moved(self, returned: Any) -> Any:
        """Return what was returned, with the mask in its info; what is odd, as it is."""
        if not isinstance(returned, tuple) or len(returned) not in (2, 5):
            return returned
        observation, *others, info = returned
        if not isinstance(observation, dict) or not isinstance(info, dict):
            return returned
        rest = {name: part for name, part in observation.items() if name != self._key}
        if self._key in observation:
            info = {**info, "action_mask": observation[self._key]}
        return rest, *others, info
