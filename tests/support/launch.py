"""Start hpcq as a user does, and clean up after it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpcq.run.processes import children

# A job whose fault comes soon after its start ends within 30 s of it; a busy machine takes minutes
# to compile its kernels.
AT_ONCE = 240
HPCQ = str(Path(sys.executable).parent / "hpcq")
# Intel MPI's mpirun is a script: mpiexec.hydra, for tests by hand.
MPIRUN = os.environ.get("HPCQ_TEST_MPIRUN", "mpirun")


def command(ranks, *arguments, program=HPCQ):
    """Return the command line; `ranks` None: without mpirun."""
    launcher = [] if ranks is None else [MPIRUN, "-n", str(ranks)]
    return [*launcher, str(program), *map(str, arguments)]


def hpcq(ranks, *arguments, code=0, timeout=480, env=None, program=HPCQ):
    """Run to the end and check the exit code."""
    done = subprocess.run(
        command(ranks, *arguments, program=program),
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert code == 70 or "Traceback" not in done.stderr, done.stderr
    return done


def start(ranks, *arguments, program=HPCQ):
    """Start a job in the background, in a process group of its own."""
    return subprocess.Popen(
        command(ranks, *arguments, program=program),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Not what MPI, started in this process by an import, has put into the C environment.
        env=dict(os.environ),
    )


def ranks_of(process, count):
    """Return the process ids of an mpirun's `count` ranks; none once it has ended."""
    while process.poll() is None:
        found = list(_ranks_below(process.pid))
        if len(found) == count:
            return found
        time.sleep(0.01)
    return []


def _ranks_below(pid):
    """Yield the ranks that have begun, which are Python: mpirun's children, or those of a proxy."""
    for child in children(pid):
        if runs_python(child):
            yield child
        else:
            yield from _ranks_below(child)


def runs_python(pid):
    """Return whether a process is a Python interpreter."""
    try:
        return "python" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


def kill(pid):
    """Kill a process that may have ended just now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def end(process):
    """Kill what is left of a job that `start` started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def summary(directory):
    return json.loads((Path(directory) / "summary.json").read_text())
