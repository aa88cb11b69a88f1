"""All that a kernel is compiled from, as one digest, so that no cached kernel is ever stale.

Of a kernel of this package that is its bytecode and what it closes over: the package's source files
name the cache folder already. Of a user's kernel it is also its file, every file of the user's that
this one imports from, directly or not, and the numbers and arrays outside it that it names,
wherever they come from: numba compiles them in.
"""

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PACKAGE = Path(__file__).parents[1]
_LIBRARIES = tuple(
    Path(path) for name, path in sysconfig.get_paths().items() if name.endswith("lib")
)


def is_kernel(value: Any) -> bool:
    """Return whether this is a function that numba compiles."""
    return hasattr(value, "py_func")


def is_ours(function: Callable) -> bool:
    """Return whether a function (or kernel) belongs to this package."""
    function = getattr(function, "py_func", function)
    return Path(function.__code__.co_filename).is_relative_to(PACKAGE)


def package_digest() -> str:
    """Return a digest of every source file of this package."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE)} {len(text)}\0".encode() + text)
    return digest.hexdigest()


def fingerprint(function: Any) -> str:
    """Return a digest that changes whenever a function or kernel could compile to something else.

    Raises
    ------
    TypeError
        if a kernel of this package closes over what has no digest.
    """
    return _digest(function, ()).hex()


def _digest(function: Any, callers: tuple[Any, ...]) -> bytes:
    function = getattr(function, "py_func", function)
    code = function.__code__
    parts = [f"{code.co_filename}:{code.co_qualname}:{code.co_firstlineno}".encode()]
    parts.append(code.co_code)
    if function in callers:
        # A kernel that calls itself, by way of others, perhaps.
        return parts[0]
    callers = (*callers, function)
    if is_ours(function):
        # Its source, constants and other kernels of this package included, names the folder.
        named = dict(
            zip(
                code.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True
            )
        )
    else:
        found = inspect.getclosurevars(function)
        named = {**found.globals, **found.nonlocals}
        files: dict[str, bytes] = {}
        source = Path(code.co_filename)
        if source.is_file():
            files[str(source)] = source.read_bytes()
        _add_module(function.__module__, function.__module__, files)
        parts += [f"{name}\0".encode() + text for name, text in sorted(files.items())]
    for name, value in sorted(named.items()):
        if is_kernel(value):
            parts.append(f"{name}=".encode() + _digest(value, callers))
        elif isinstance(value, np.ndarray):
            parts.append(f"{name}={value.dtype}{value.shape}".encode() + value.tobytes())
        elif isinstance(value, int | float | complex | str | tuple | np.generic | np.dtype):
            parts.append(f"{name}={value!r}".encode())
        elif is_ours(function):
            raise TypeError(f"{code.co_qualname} closes over {name} = {value!r}")
    return hashlib.blake2b(
        b"".join(hashlib.blake2b(part).digest() for part in parts), digest_size=16
    ).digest()


def _add_module(name: str, user: str, files: dict[str, bytes]) -> None:
    """Add a module's file and those that it imports from; libraries other than the user's not."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None or f"module {name}" in files or not Path(file).is_file():
        return
    path = Path(file)
    library = path.is_relative_to(PACKAGE) or any(path.is_relative_to(p) for p in _LIBRARIES)
    if library and name.partition(".")[0] != user.partition(".")[0]:
        return
    files[f"module {name}"] = path.read_bytes()
    for value in list(vars(module).values()):
        origin = value.__name__ if isinstance(value, ModuleType) else _module_of(value)
        if origin is not None:
            _add_module(origin, user, files)


def _module_of(value: Any) -> str | None:
    name = getattr(getattr(value, "py_func", value), "__module__", None)
    return name if isinstance(name, str) else None
