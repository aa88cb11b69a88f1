"""Look into untrusted files in a child process, with limits on its time and memory.

The child is a fresh interpreter, not a fork: a process that runs MPI must not be forked. What it
cannot look into is not damaged for that: only what has been read and found wrong is.
"""

import contextlib
import copy
import ctypes
import errno
import json
import math
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcq.errors import CheckpointError, DependencyError, FormatError, HpcqError, UnreadableError
from hpcq.printable import printable

CPU_SECONDS = 2
MEMORY = 512 << 20
# For a slow file system; the child itself needs a fraction of a second.
WAIT_SECONDS = 60

# What HDF5 ends with on damaged files, or at the limit on its time. The child ignores all other
# signals that can be ignored: they are for the run, and say nothing of a file.
DAMAGE = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGXCPU,
}
# Offsets in a damaged file that no read can have; all other numbers are the system's reasons.
_WRONG_OFFSET = (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
_PR_SET_PDEATHSIG = 1

# What the child runs.
CHILD = """
import sys
sys.path.append(sys.argv[1])
from hpcq.checkpoint.sandbox import main
main()
"""

Found = dict[str, Any]
"""the result of `layout_check.describe`"""


def describe(path: str | Path) -> Found:
    """Return `layout_check.describe` of a file, even if HDF5 crashes on it.

    Raises
    ------
    CheckpointError
        if the file is no checkpoint, or HDF5 crashes on it or exceeds its limits.
    UnreadableError, DependencyError
        if it could not be looked into.
    """
    (found,) = describe_each([path])
    if isinstance(found, HpcqError):
        raise found
    return found


# A start looks at the same few files again and again, and a child takes half a second.
_MOST_KEPT = 64
_kept: dict[tuple[str, int, int, int, int], Found] = {}


def describe_each(paths: Sequence[str | Path]) -> list[Found | HpcqError]:
    """Return for each file what `describe` would return or raise; in one child, if none crashes.

    A file that has not changed since this process last asked is not looked into again.
    """
    found: dict[str, Found | HpcqError] = {}
    versions = {str(path): _version(str(path)) for path in paths}
    for path, version in versions.items():
        if error := _no_file(path):
            found[path] = error
        elif version in _kept:
            found[path] = copy.deepcopy(_kept[version])
    while left := [path for path in map(str, paths) if path not in found]:
        answers, fault = _ask_child(left)
        for path, answer in zip(left, answers, strict=False):
            found[path] = _result(path, answer)
        # A crash is the fault of the file that the child was at; other failures are of no file.
        damaged = isinstance(fault, CheckpointError)
        for path in left[len(answers) :][: 1 if damaged else None]:
            found[path] = type(fault)(f"{path}: {fault}")
    for path, version in versions.items():
        _keep(version, found[path])
    return [found[str(path)] for path in paths]


def _version(path: str) -> tuple[str, int, int, int, int] | None:
    """Return what changes whenever a file does; None if there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return os.path.abspath(path), seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns


def _keep(version: tuple[str, int, int, int, int] | None, found: Found | HpcqError) -> None:
    """Keep what was found right, of the newest files."""
    if version is None or isinstance(found, HpcqError) or version in _kept:
        return
    if len(_kept) == _MOST_KEPT:
        del _kept[next(iter(_kept))]
    _kept[version] = copy.deepcopy(found)


def _no_file(path: str) -> HpcqError | None:
    """Return why there is nothing to look into, if so."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return UnreadableError(f"{path}: it is a link to {os.readlink(path)}, which is missing")
    except OSError as error:
        return UnreadableError(f"{path}: cannot be read: {error.strerror}")
    return CheckpointError(f"{path}: no such file; expected a checkpoint (ckpt-STEP.h5)")


def _ask_child(paths: list[str]) -> tuple[list[Found], HpcqError]:
    """Return the answers of a child for the first of some files, and what ended it, if not all."""
    # -P: the current folder must not be in the import path.
    command = [sys.executable, "-P", "-c", CHILD, str(Path(__file__).parents[2])]
    # The child inherits the mask; what comes meanwhile reaches this process afterwards.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - DAMAGE)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "OPENBLAS_NUM_THREADS": "1"},
        )
    except OSError as error:
        return [], UnreadableError(f"cannot be looked into: no process for it: {error.strerror}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with child:
        try:
            output, errors = _communicate(child, json.dumps(paths).encode())
        except subprocess.TimeoutExpired as late:
            child.kill()
            return _lines(late.output)[0], UnreadableError(
                f"cannot be looked into: not read within {WAIT_SECONDS} s; is the file system "
                "slow, or the machine busy?"
            )
        except BaseException:
            child.kill()
            raise
    answers, begun = _lines(output)
    return answers, _fault(child.returncode, begun, errors.decode(errors="replace"))


def _communicate(child: subprocess.Popen[bytes], given: bytes) -> tuple[bytes, bytes]:
    """Return what a child prints within `WAIT_SECONDS`, in which both processes run.

    A job may be suspended as a whole, for hours: one of these seconds passes then.
    """
    for second in range(1, WAIT_SECONDS):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.communicate(given if second == 1 else None, 1)
    return child.communicate(timeout=1)


def _lines(output: bytes | None) -> tuple[list[Found], Found]:
    """Return the answers of a child, and what it said when it began with the next file, if so."""
    said = []
    for line in (output or b"").splitlines():
        try:
            said.append(json.loads(line))
        except ValueError:
            break
    answers = [line for line in said if "begun" not in line]
    begun = said[-1] if said and "begun" in said[-1] else {}
    return answers, begun


def _fault(code: int, begun: Found, errors: str) -> HpcqError:
    """Return what a child's end says, of the file at which it was or of no file."""
    reason = printable(errors.strip().rpartition("\n")[2]) or f"exit code {code}"
    if code < 0:
        number = signal.Signals(-code)
        # Before it begins, and with less memory than HDF5 needs, a crash is not the file's fault.
        if number in DAMAGE and begun and not begun["tight"]:
            return CheckpointError(f"damaged: HDF5 ended with {number.name} on it")
        reason = f"the process that does so was ended by {number.name}"
    if code > 0 and reason.startswith("ModuleNotFoundError"):
        return DependencyError(f"cannot be looked into: {reason}; install it again")
    return UnreadableError(f"cannot be looked into: {reason}")


def _result(path: str, answer: Found) -> Found | HpcqError:
    try:
        return checked(path, answer)
    except HpcqError as error:
        return error


def checked(path: str | Path, answer: Found) -> Found:
    """Return the answer of `ask`, or raise the error that it is."""
    kinds = {"format": FormatError, "error": CheckpointError, "unreadable": UnreadableError}
    for name, kind in kinds.items():
        if name in answer:
            raise kind(f"{path}: {printable(answer[name])}")
    return answer


def ask(path: str, tight: bool = False) -> Found:
    """Return `layout_check.describe`, or {"error", "format" or "unreadable": why not}.

    For the child: on damaged files HDF5 may crash.

    Parameters
    ----------
    tight
        whether the user's own limits are below those of `limit`: then these may be the reason.
    """
    from hpcq.checkpoint.layout_check import describe as describe_layout

    try:
        return describe_layout(path)
    except FormatError as error:
        return {"format": str(error)}
    except OSError as error:
        if tight or error.errno not in (None, *_WRONG_OFFSET):
            return {"unreadable": f"cannot be read: {error.strerror or error}"}
        return {"error": f"not a readable HDF5 file: {error}"}
    except MemoryError:
        if tight:
            return {"unreadable": "cannot be looked into: too little memory (ulimit -v)"}
        return {"error": "damaged: it asks for more memory than a checkpoint's structure can"}
    except Exception as error:  # libraries raise anything on damaged files
        if tight and not isinstance(error, ValueError):
            return {"unreadable": f"cannot be looked into: {error}"}
        return {"error": f"damaged, or not an hpcq checkpoint: {error}"}


def limit() -> bool:
    """Limit this process to what one file may need; return whether the user's limits are lower."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    tight = [
        _limit(resource.RLIMIT_AS, used + MEMORY),
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + CPU_SECONDS),
    ]
    _limit(resource.RLIMIT_CORE, 0)
    return any(tight)


def _limit(what: int, value: int) -> bool:
    """Set a limit, below the hard one; return whether that is lower."""
    _, most = resource.getrlimit(what)
    lower = most != resource.RLIM_INFINITY and most < value
    resource.setrlimit(what, (most if lower else value, most))
    return lower


def main() -> None:
    """Print, for each path of a JSON list, that it begins and the answer of `ask`: in the child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    paths = json.load(sys.stdin)
    import mpi4py

    # An h5py with MPI imports mpi4py: that alone must start nothing.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    from hpcq.checkpoint import layout_check  # noqa: F401  (before the limits)

    for path in paths:
        tight = limit()
        print(json.dumps({"begun": path, "tight": tight}), flush=True)
        print(json.dumps(ask(path, tight)), flush=True)
