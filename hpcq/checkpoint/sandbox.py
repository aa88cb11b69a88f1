"""Check an untrusted file in a child process, with limits on its time and memory.

The child is a fresh interpreter, not a fork: a process that runs MPI must not be forked.
"""

import json
import math
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hpcq.errors import CheckpointError, FormatError

CPU_SECONDS = 2
MEMORY = 512 << 20
# For a slow file system; the child itself needs a fraction of a second.
WAIT_SECONDS = 60

_CHILD = """
import sys
sys.path.append(sys.argv[1])
from hpcq.checkpoint.sandbox import main
main(sys.argv[2])
"""


def describe(path: str | Path) -> dict[str, Any]:
    """Return `layout_check.describe` of a file, even if HDF5 crashes on it.

    Raises
    ------
    CheckpointError
        if the file is no checkpoint, or HDF5 crashes on it or exceeds its limits.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint (ckpt-STEP.h5)")
    # -P: the current folder must not be in the import path.
    command = [sys.executable, "-P", "-c", _CHILD, str(Path(__file__).parents[2]), str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{path}: HDF5 did not read it within {WAIT_SECONDS} s") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise CheckpointError(f"{path}: damaged: HDF5 ended with {name} on it")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CheckpointError(f"{path}: cannot be read: {reason}") from None
    return checked(path, answer)


def checked(path: str | Path, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of `ask`, or raise the error that it is."""
    if "format" in answer:
        raise FormatError(f"{path}: {answer['format']}")
    if "error" in answer:
        raise CheckpointError(f"{path}: {answer['error']}")
    return answer


def ask(path: str) -> dict[str, Any]:
    """Return `layout_check.describe`, or {"error" or "format": why not}; for the child."""
    from hpcq.checkpoint.layout_check import describe as describe_layout

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, used + MEMORY)
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        return describe_layout(path)
    except FormatError as error:
        return {"format": str(error)}
    except OSError as error:
        return {"error": f"not a readable HDF5 file: {error}"}
    except MemoryError:
        return {"error": "damaged: it asks for more memory than a checkpoint's structure can"}
    except Exception as error:  # libraries raise anything on damaged files
        return {"error": f"damaged, or not an hpcq checkpoint: {error}"}


def _limit(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def main(path: str) -> None:
    """Print the answer of `ask` as JSON: what the child does."""
    import mpi4py

    # An h5py with MPI imports mpi4py: that alone must start nothing.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    print(json.dumps(ask(path)))
