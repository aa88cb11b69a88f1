"""The user's own code, by name: ``module:Name`` or ``path/to/file.py:Name``."""

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hpcq.envs.guest import format_error
from hpcq.errors import DependencyError, EnvironmentFault, HpcqError, JobError


def is_file(place: str) -> bool:
    """Return whether the part before the colon is a file's path rather than a module's name."""
    return place.endswith(".py")


def load_module(place: str) -> ModuleType:
    """Import a module by its name, or from a file, which can import files beside it.

    Raises
    ------
    JobError
        if there is no such module or file.
    EnvironmentFault
        if it raises.
    """
    try:
        return _from_file(Path(place)) if is_file(place) else _by_name(place)
    except ModuleNotFoundError as error:
        if not is_file(place) and error.name is not None and f"{place}.".startswith(error.name):
            raise JobError(
                f"no module named {error.name!r}; is its package installed, or its folder the "
                "working one or in PYTHONPATH?"
            ) from None
        if not is_file(place):
            raise DependencyError(
                f"{place} cannot be imported{_where(error)}: it needs {error.name!r}, which is not "
                "installed (often `pip install` and that name, or an extra of the package)"
            ) from error
        raise EnvironmentFault(f"{place} cannot be imported:\n{format_error(error)}") from error
    except FileNotFoundError:
        if not Path(place).exists():
            raise JobError(f"no file {place}") from None
        raise
    except (HpcqError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EnvironmentFault(f"{place} cannot be imported:\n{format_error(error)}") from error


def _where(error: BaseException) -> str:
    """Return the line of the user's code, or of a package, that raised; importlib aside."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames[1:] if "importlib" not in frame.filename]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside[1:] else ""


def _by_name(name: str) -> ModuleType:
    """Import a module; only where there is no other, it may be in the working folder."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        own = name.partition(".")[0]
        folder = _working_folder()
        if error.name != own or not ((folder / own).is_dir() or (folder / f"{own}.py").is_file()):
            raise
    _keep_on_path(folder)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.devnull)


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    name = f"{path.stem}_{hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.exists():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    # A .pyc file is identified by its source's time and size, which a change can leave as they are.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
        sys.dont_write_bytecode = before
    _keep_on_path(path.parent)
    return module


def _keep_on_path(folder: Path) -> None:
    """Let the user's code import what lies beside it later, too, unless there is another of it."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def load(entry: str) -> Any:
    """Return what ``module:Name`` or ``file.py:Name`` names.

    Raises
    ------
    JobError
        if there is no such thing.
    EnvironmentFault
        if importing it raises.
    """
    place, colon, name = entry.rpartition(":")
    if not colon or not place or not name:
        raise JobError(f"{entry!r}: expected module:Name or path/to/file.py:Name")
    found: Any = load_module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise JobError(f"{place} has no {name!r}")
        found = getattr(found, part)
    return found


def call(what: str, function: Callable, *arguments: Any, **kwargs: Any) -> Any:
    """Call the user's constructor.

    Raises
    ------
    JobError
        if it does not take these arguments; `what` says whose they are.
    EnvironmentFault
        if it raises, with its traceback.
    """
    check_arguments(what, function, *arguments, **kwargs)
    kwargs = with_arrays(function, kwargs)
    try:
        return function(*arguments, **kwargs)
    except (HpcqError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EnvironmentFault(f"{what} cannot be made:\n{format_error(error)}") from error


def takes(function: Callable, name: str) -> bool:
    """Return whether `function` has a parameter of this name, as far as one can tell."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def with_arrays(function: Callable, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with an array for each list where `function` declares an array.

    A job file has no arrays. An annotation declares one, or the default that is one.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return kwargs
    return {
        name: np.array(value)
        if isinstance(value, list) and name in parameters and _is_array(parameters[name])
        else value
        for name, value in kwargs.items()
    }


def _is_array(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter is for an array, and not for a list, too."""
    annotation = str(parameter.annotation)
    named = re.search(r"\bndarray\b|\bNDArray\b", annotation)
    lists = re.search(r"\blist\b|\bList\b|\bSequence\b|\bArrayLike\b", annotation)
    return isinstance(parameter.default, np.ndarray) or bool(named and not lists)


def check_arguments(what: str, function: Callable, *arguments: Any, **kwargs: Any) -> None:
    """Raise JobError if a call of `function` would not even begin."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments, **kwargs)
    except TypeError as error:
        raise JobError(f"kwargs of {what}: {error}; it takes {signature}") from None
