"""How a step ended."""

from enum import IntEnum

# Constants of kernels.


class Outcome(IntEnum):
    """How a step ended. Only TERMINATED stops bootstrapping."""

    CONTINUES = 0
    TERMINATED = 1
    TRUNCATED = 2
    RESET = 3
    """no step: the environment has just been reset by hpcq"""
