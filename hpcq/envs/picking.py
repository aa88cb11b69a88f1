"""What `environment.reset_options` and `environment.observe` put around an environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from hpcq.errors import JobError


class ResetOptions(gymnasium.Wrapper):
    """Gives options to every reset."""

    def __init__(self, env: gymnasium.Env, options: dict[str, Any]) -> None:
        super().__init__(env)
        self._options = options

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment; options given here come on top."""
        return self.env.reset(seed=seed, options={**self._options, **(options or {})})


class PartsOfObservation(gymnasium.Wrapper):
    """Leaves out all but some parts of the observation.

    Parameters
    ----------
    parts
        indices of an array of one dimension or of a Tuple, or keys of a Dict.

    Raises
    ------
    JobError
        if the observation has no such parts.
    """

    def __init__(self, env: gymnasium.Env, parts: list[Any]) -> None:
        super().__init__(env)
        self._parts = parts
        self.observation_space = self._space(env.observation_space)

    def _space(self, space: Any) -> Any:
        known = self._known(space)
        wrong = [part for part in self._parts if part not in known]
        if wrong or len(set(self._parts)) < len(self._parts):
            expected = f"some of {known}, each once" if known else "an array of one dimension, "
            expected += "" if known else "a Tuple or a Dict"
            raise JobError(
                f"environment.observe = {self._parts}, but the observation space is {space}; "
                f"expected {expected}"
            )
        if isinstance(space, spaces.Dict):
            return spaces.Dict({part: space.spaces[part] for part in self._parts})
        if isinstance(space, spaces.Tuple):
            return spaces.Tuple([space.spaces[part] for part in self._parts])
        if isinstance(space, spaces.Box):
            return spaces.Box(space.low[self._parts], space.high[self._parts], dtype=space.dtype)
        if isinstance(space, spaces.MultiBinary):
            return spaces.MultiBinary(len(self._parts))
        start = np.broadcast_to(space.start, space.shape)[self._parts]
        return spaces.MultiDiscrete(space.nvec[self._parts], dtype=space.dtype, start=start)

    @staticmethod
    def _known(space: Any) -> list[Any]:
        """Return the parts that a space has."""
        if isinstance(space, spaces.Dict):
            return list(space.spaces)
        if isinstance(space, spaces.Tuple):
            return list(range(len(space.spaces)))
        arrays = spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete
        one = isinstance(space, arrays) and len(space.shape) == 1
        return list(range(space.shape[0])) if one else []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment."""
        return self._picked(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> Any:
        """Take a step."""
        return self._picked(self.env.step(action))

    def _picked(self, returned: Any) -> Any:
        """Return what was returned with a part of the observation; what is odd, as it is."""
        if not isinstance(returned, tuple) or len(returned) not in (2, 5):
            return returned
        observation, *others = returned
        if isinstance(observation, dict):
            observation = {part: observation[part] for part in self._parts if part in observation}
        elif isinstance(self.observation_space, spaces.Tuple):
            if isinstance(observation, tuple | list) and len(observation) > max(self._parts):
                observation = tuple(observation[part] for part in self._parts)
        else:
            array = np.asarray(observation)
            if array.shape == self.env.observation_space.shape:
                observation = array[self._parts]
        return observation, *others
