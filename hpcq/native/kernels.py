"""How hpcq compiles its kernels: one decorator, and one cache that is never stale.

numba's cache looks at the file of the function it compiles and not at the files of the
functions that this one calls. Here the cache folder is named after a digest of every source
that takes part (the user's: see origin.py), so that any change leads to a fresh folder.
"""

import atexit
import contextlib
import fcntl
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
from numba.core.caching import FunctionCache

from hpcq.native.cache import wanted
from hpcq.native.origin import identity_of, is_kernel, is_ours

_PACKAGE = Path(__file__).parents[1]
# nogil: the watchdog's thread runs while a kernel does.
_MARKS = (b"@kernel", b"@inlined", b"@intrinsic", b"@template", b"bind(", b"# Constants of kernels")
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "nogil": True}


def cache_root() -> Path:
    """Return the folder of all compiled kernels.

    It is ``$HPCQ_CACHE_DIR``, or in the user's cache. Where these cannot be written it is a private
    one of this process, removed at its end: numba's own choice would be a folder whose name does
    not tell the sources, and cached kernels in a shared place could be somebody else's.
    """
    chosen = wanted()
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
        if any(mark in text for mark in _MARKS):
            digest.update(text)
    return digest.hexdigest()


class _SharedCache(FunctionCache):
    """numba's cache, saved to by one process at a time.

    Of two that save at once, numba can enter the code of one under the signature of the other
    (numba#4807): jobs of an array, say, that start together.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # numba would first load all that it compiles with: 65 modules, a quarter of a second.
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        # What cannot be kept, on a full disk, is compiled again.
        with contextlib.suppress(OSError), open(Path(self.cache_path, "lock"), "a") as lock:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            super().save_overload(sig, data)


_DIGEST = _sources_digest()
_ROOT = cache_root()


def _compile(
    function: Callable, identity: bytes = b"", cache: bool = True, inline: bool = False
) -> Any:
    name = _DIGEST
    if identity:
        name += "-" + hashlib.blake2b(identity, digest_size=8).hexdigest()
    config: Any = numba_config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_ROOT / name)
    try:
        compiled = numba.njit(**_OPTIONS, forceinline=inline)(function)
        if cache:
            compiled._cache = _SharedCache(function)
        return compiled
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable) -> Any:
    """Compile `function` with numba at its first call, cached on disk between processes.

    A kernel cannot allocate: without numba's runtime, arrays are not reference-counted, which in
    a loop costs more than the work. ``function.py_func`` stays the plain Python text; where it
    only uses operators it also works on NumPy arrays.

    A kernel outside this package has no cache of its own. It becomes part of a `bind`, which has
    one, named after all that the kernel is made of.
    """
    return _compile(function, cache=is_ours(function))


class Direct:
    """A kernel that is called without a look at the types of its arguments.

    With tuples of arrays that look takes longer than a small kernel runs. The types of the first
    call must be those of every call: numba would read other arguments as if they were of these.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._code: Callable | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel."""
        if self._code is None:
            types_ = tuple(map(self._kernel.typeof_pyval, arguments))
            self._code = self._kernel.compile(types_)
        return self._code(*arguments)


def inlined(function: Callable) -> Any:
    """Compile a `kernel` that is copied into its callers: a call would cost more than its work."""
    return _compile(function, cache=is_ours(function), inline=True)


def template(function: Callable) -> Callable:
    """Mark a function that `bind` completes: its file takes part in the cache folder's name."""
    return function


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
    identity = b"" if is_ours(template) else identity_of(template)
    for name, value in sorted(names.items()):
        identity += f"{name}=".encode()
        identity += identity_of(value) if is_kernel(value) else repr(value).encode()
    compiled = _compile(bound, identity, inline=True)
    compiled.bound_to = identity
    return compiled
