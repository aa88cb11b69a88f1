"""Distributed tabular Q-learning: a hash-partitioned table over MPI ranks.

What stands in `__all__` is loaded when it is first used: ``import hpcq`` starts no MPI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcq._version import __version__ as __version__
from hpcq.errors import check_compiler

if TYPE_CHECKING:
    from hpcq.api import evaluate, iter_train, solve, train
    from hpcq.envs.protocol import compiled_environment, permit, second_draw, unit_interval
    from hpcq.jit.compiler import kernel
    from hpcq.job.job import Job
    from hpcq.view.policy import Policy, load_policy
    from hpcq.view.table import Table, load_table

__all__ = [
    "Job",
    "Policy",
    "Table",
    "__version__",
    "compiled_environment",
    "evaluate",
    "iter_train",
    "kernel",
    "load_policy",
    "load_table",
    "permit",
    "second_draw",
    "solve",
    "train",
    "unit_interval",
]

_PLACES = {
    "hpcq.api": ("evaluate", "iter_train", "solve", "train"),
    "hpcq.envs.protocol": (
        "compiled_environment",
        "kernel",
        "permit",
        "second_draw",
        "unit_interval",
    ),
    "hpcq.job.job": ("Job",),
    "hpcq.view.policy": ("Policy", "load_policy"),
    "hpcq.view.table": ("Table", "load_table"),
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            if name != "Job":
                check_compiler()
            return getattr(import_module(place), name)
    raise AttributeError(f"module 'hpcq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
