"""All that a kernel of the user's is made of, so that none is ever served stale.

That is its own file, every file of the user's that this one imports from, directly or not, and the
numbers and arrays outside it that it names, wherever they come from: numba compiles them in.
"""

import inspect
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = tuple(
    Path(path) for name, path in sysconfig.get_paths().items() if name.endswith("lib")
)


def is_kernel(value: Any) -> bool:
    """Return whether this is a function that numba compiles."""
    return hasattr(value, "py_func")


def is_ours(function: Callable) -> bool:
    """Return whether a function (or kernel) belongs to this package."""
    function = getattr(function, "py_func", function)
    return Path(function.__code__.co_filename).is_relative_to(_PACKAGE)


def identity_of(function: Callable) -> bytes:
    """Return bytes that change whenever a function or kernel could compile to something else."""
    parts: dict[str, bytes] = {}
    _add(function, parts)
    return b"".join(name.encode() + b"\0" + text + b"\0" for name, text in sorted(parts.items()))


def _add(function: Any, parts: dict[str, bytes]) -> None:
    # What `kernels.bind` has put in, as it is not in the text.
    bound_to = getattr(function, "bound_to", b"")
    function = getattr(function, "py_func", function)
    code = function.__code__
    key = f"{code.co_filename}:{function.__qualname__}:{code.co_firstlineno}"
    if key in parts:
        return
    parts[key] = code.co_code + bound_to
    if is_ours(function):
        # Its source has named the cache folder already.
        return
    source = Path(code.co_filename)
    if source.is_file():
        parts[str(source)] = source.read_bytes()
    _add_module(function.__module__, function.__module__, parts)
    named = inspect.getclosurevars(function)
    for name, value in {**named.globals, **named.nonlocals}.items():
        if is_kernel(value):
            _add(value, parts)
        elif isinstance(value, np.ndarray):
            parts[f"{key} {name}"] = f"{value.dtype}{value.shape}".encode() + value.tobytes()
        elif isinstance(value, int | float | complex | str | tuple | np.generic):
            parts[f"{key} {name}"] = repr(value).encode()


def _add_module(name: str, user: str, parts: dict[str, bytes]) -> None:
    """Add a module's file and those that it imports from; libraries other than the user's not."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None or f"module {name}" in parts or not Path(file).is_file():
        return
    path = Path(file)
    library = path.is_relative_to(_PACKAGE) or any(path.is_relative_to(p) for p in _LIBRARIES)
    if library and name.partition(".")[0] != user.partition(".")[0]:
        return
    parts[f"module {name}"] = path.read_bytes()
    for value in list(vars(module).values()):
        origin = value.__name__ if isinstance(value, ModuleType) else _module_of(value)
        if origin is not None:
            _add_module(origin, user, parts)


def _module_of(value: Any) -> str | None:
    name = getattr(getattr(value, "py_func", value), "__module__", None)
    return name if isinstance(name, str) else None
