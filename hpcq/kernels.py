"""How hpcq compiles its kernels: one decorator, and one cache that is never stale.

numba's cache looks at the file of the function it compiles and not at the files of the
functions that this one calls. Here the cache folder is named after a digest of every source
that takes part, so that any change leads to a fresh folder.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config

_PACKAGE = Path(__file__).parent
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def cache_root() -> Path:
    """Return the folder of all compiled kernels.

    It is ``$HPCQ_CACHE_DIR``, or in the user's cache. Where these cannot be written it is a private
    one of this process, removed at its end: numba's own choice would be a folder whose name does
    not tell the sources, and cached kernels in a shared place could be somebody else's.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    chosen = Path(os.environ.get("HPCQ_CACHE_DIR") or Path(home) / "hpcq")
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        if os.access(chosen, os.W_OK):
            return chosen
    except OSError:
        pass
    private = tempfile.mkdtemp(prefix="hpcq-")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    return Path(private)


def _sources_digest() -> str:
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        if any(mark in text for mark in (b"@kernel", b"@intrinsic", b"bind(")):
            digest.update(text)
    return digest.hexdigest()


_DIGEST = _sources_digest()
_ROOT = cache_root()


def _compile(function: Callable, extra: bytes = b"") -> Any:
    name = _DIGEST
    source = Path(function.__code__.co_filename)
    # numba sees a file's time and size; a file of the user's can change without either.
    if not source.is_relative_to(_PACKAGE) and source.is_file():
        extra += source.read_bytes()
    if extra:
        name += "-" + hashlib.blake2b(extra, digest_size=8).hexdigest()
    config: Any = numba_config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_ROOT / name)
    try:
        return numba.njit(**_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable) -> Any:
    """Compile `function` with numba at its first call, cached on disk between processes.

    A kernel cannot allocate: without numba's runtime, arrays are not reference-counted, which in
    a loop costs more than the work. ``function.py_func`` stays the plain Python text; where it
    only uses operators it also works on NumPy arrays.
    """
    return _compile(function)


def bind(template: Callable, **names: Any) -> Any:
    """Compile `template` with global names standing for other kernels, or for constants.

    The kernels are inlined, the constants folded, as if the template had been written for them.
    Source files and constants take part in the name of the cache folder.
    """
    namespace = {**template.__globals__, **names}
    bound = types.FunctionType(
        template.__code__, namespace, template.__name__, template.__defaults__, None
    )
    bound.__qualname__ = template.__qualname__
    bound.__module__ = template.__module__
    identity = b"".join(_identity(*item) for item in sorted(names.items()))
    compiled = _compile(bound, identity)
    compiled.bound_to = identity
    return compiled


def _identity(name: str, value: Any) -> bytes:
    if not hasattr(value, "py_func"):
        return f"{name}={value!r};".encode()
    source = Path(value.py_func.__code__.co_filename).read_bytes()
    bound_to = getattr(value, "bound_to", b"")
    return f"{name}={value.py_func.__qualname__};".encode() + source + bound_to
