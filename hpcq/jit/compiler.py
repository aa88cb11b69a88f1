"""How hpcq compiles its kernels: one decorator, and one cache that is never stale.

numba's cache looks at the file of the function it compiles and not at the files of the functions
that this one calls. Here the cache folder is named after a digest of all of hpcq's source files,
and a kernel is found in it by the fingerprint of what it closes over: a factory's other kernels and
constants, the user's own functions and files among them (see fingerprint.py).

A kernel that depends on a rule, a policy or an environment is made by a factory: an ordinary
function that defines and returns it. What the kernel closes over, other kernels and constants, is
compiled in; the kernels are inlined and the constants folded.
"""

import atexit
import contextlib
import fcntl
import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import numba
import numba.extending
from numba.core import config as numba_config
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from hpcq.jit.cache import wanted
from hpcq.jit.fingerprint import fingerprint, is_ours, package_digest

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# nogil: the watchdog's thread runs while a kernel does.
_OPTIONS: dict[str, Any] = {
    "nopython": True,
    "boundscheck": None,
    "error_model": "numpy",
    "_nrt": False,
    "nogil": True,
    "no_cfunc_wrapper": True,
}


class Kernel(Protocol[P, R_co]):
    """A compiled function; numba's dispatcher."""

    @property
    def py_func(self) -> Callable[P, R_co]:
        """The plain Python function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it, compiled at the first call for these types."""


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


class _SharedCache(FunctionCache):
    """numba's cache, saved to by one process at a time; what cannot be read is compiled again.

    Of two that save at once, numba can enter the code of one under the signature of the other
    (numba#4807): jobs of an array, say, that start together.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # numba would pickle what a closure holds: other bytes in every process (numba#6264).
        return sig, codegen.magic_tuple(), fingerprint(self._py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # numba would first load all that it compiles with: 65 modules, a quarter of a second.
        try:
            return self._load_overload(sig, target_context)
        except Exception:
            # A damaged file, or one with the type of another user's model in a signature.
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        # What cannot be kept, on a full disk, is compiled again.
        with contextlib.suppress(OSError), open(Path(self.cache_path, "lock"), "a") as lock:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:
                # The index cannot be read: begin a new one.
                self.flush()
                super().save_overload(sig, data)


# No other process has it.
_PROCESS = f"_{uuid.uuid4().hex}"

_FOLDER = cache_root() / f"{package_digest()}-numba{numba.__version__}"


class _Dispatcher(CPUDispatcher):
    """numba's, but what it has compiled before is looked for at the first call.

    Hundreds of kernels are imported where a few are used.
    """

    part: str
    """a folder in that of the cache"""
    _is_found = False

    def compile(self, sig: Any) -> Any:
        """Return the machine code for these types, compiled, loaded or known."""
        # The thread that answers compiles, too; where a cache is, numba takes from a global.
        with global_compiler_lock:
            # A kernel outside this package becomes part of one that a factory makes, which has a
            # cache.
            if not self._is_found and is_ours(self.py_func):
                self._cache = _cache_of(self.py_func, self.part)
            self._is_found = True
            return super().compile(sig)


class _Kernel(_Dispatcher):
    """Called from Python; what other kernels call is compiled without the way in from Python.

    That way in takes apart each array of each argument: a quarter of the time to compile.
    """

    within: Any

    @property
    def _numba_type_(self) -> Any:
        return types.Dispatcher(self.within)

    def compile(self, sig: Any) -> Any:
        """Return the machine code for these types, compiled, loaded or known."""
        # Most of what the compiler makes stays reachable until the end: looking for garbage
        # meanwhile takes a tenth of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile(sig)
        finally:
            if collects:
                gc.enable()


def _cache_of(function: Callable, part: str) -> _SharedCache:
    # Closures have folders of their own: an index holds the types of a user's models.
    folder = _FOLDER / fingerprint(function)[:16] if function.__closure__ else _FOLDER
    config: Any = numba_config
    before, named = config.CACHE_DIR, function.__qualname__
    config.CACHE_DIR = str(folder / part)
    function.__qualname__ = named.removesuffix(_PROCESS)
    try:
        return _SharedCache(function)
    finally:
        config.CACHE_DIR, function.__qualname__ = before, named


def _compile(function: Callable[P, R], inline: bool) -> Kernel[P, R]:
    options = {**_OPTIONS, "forceinline": inline}
    compiled: Any = _Kernel(function, targetoptions=options)
    compiled.within = _Dispatcher(function, targetoptions={**options, "no_cpython_wrapper": True})
    compiled.part, compiled.within.part = "", "within"
    # Of symbols of one name in several cached files, the linker takes the first. numba counts
    # functions to tell closures apart, and begins anew in every process.
    function.__qualname__ += _PROCESS
    return cast(Kernel[P, R], compiled)


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile `function` with numba at its first call, cached on disk between processes.

    A kernel cannot allocate: without numba's runtime, arrays are not reference-counted, which in
    a loop costs more than the work. ``function.py_func`` stays the plain Python text; where it
    only uses operators it also works on NumPy arrays.

    A kernel outside this package has no cache of its own. It becomes part of a kernel that a
    factory makes, which has one.
    """
    return _compile(function, inline=False)


def inlined(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a `kernel` that is copied into its callers: a call would cost more than its work."""
    return _compile(function, inline=True)


def intrinsic(define: Callable[Concatenate[Any, P], Any]) -> Callable[P, Any]:
    """Return numba's `intrinsic` of a function, with the arguments that kernels give it."""
    made: Any = numba.extending.intrinsic(define)
    return cast(Callable[P, Any], made)


def literal_intrinsic(define: Callable[Concatenate[Any, P], Any]) -> Callable[P, Any]:
    """Return an `intrinsic` that is told the values of constants, not only their types."""
    made: Any = numba.extending.intrinsic(prefer_literal=True)(define)
    return cast(Callable[P, Any], made)


class PrecompiledCall:
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
            kinds = tuple(map(self._kernel.typeof_pyval, arguments))
            self._code = self._kernel.compile(kinds)
        return self._code(*arguments)
