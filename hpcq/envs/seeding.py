"""Environments that draw from the global generators, `random` and `numpy.random`.

Each copy of such an environment is given generators of its own: their states are put in place
around every call, and taken out after it. So what it draws depends on its seeds alone, and neither
on the other copies of a process nor on how many processes there are.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator


class _Generators:
    """States of both generators while they are not in place."""

    def __init__(self, seed: int) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin anew."""
        self._python = random.Random(seed).getstate()
        self._numpy: Any = np.random.MT19937(seed)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put them in place for the body."""
        python, numpy = random.getstate(), get_bit_generator()
        random.setstate(self._python)
        # It also drops the second of a pair of normal draws, which is no part of a generator.
        set_bit_generator(self._numpy)
        try:
            yield
        finally:
            self._python = random.getstate()
            random.setstate(python)
            set_bit_generator(numpy)


class GlobalSeeds(gymnasium.Wrapper):
    """An environment whose global generators are its own, seeded at ``reset(seed=...)``.

    Parameters
    ----------
    make
        makes the environment: with seed 0.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._generators = _Generators(0)
        with self._generators.in_place():
            env = make()
        super().__init__(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment; a seed seeds its global generators, too."""
        if seed is not None:
            self._generators.seed(seed)
        with self._generators.in_place():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Take a step."""
        with self._generators.in_place():
            return self.env.step(action)
