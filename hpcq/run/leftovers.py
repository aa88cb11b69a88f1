"""What environments leave behind: processes and threads that would outlive the command.

A process that holds the pipe of the launcher's output keeps mpirun waiting, a thread keeps the
interpreter.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hpcq.errors import ExitCode
from hpcq.run import processes
from hpcq.run.stderr import say

# Seconds for the libraries' own clean-up at the end, and for a process after SIGTERM.
PATIENCE = 3.0
GRACE_SECONDS = 2.0

# End this process at once; in an environment `os._exit` is a mistake: see `exits_are_failures`.
exit_now = os._exit

# Children that are MPI's own: a process without mpirun may start Open MPI's daemon.
_expected: set[int] = set()


def expect_children() -> None:
    """Take the present children for MPI's, which end with it."""
    _expected.update(processes.descendants(os.getpid()))


def end_children() -> None:
    """End every process below this one, and say so."""
    found = [pid for pid in processes.descendants(os.getpid()) if not _ends_itself(pid)]
    if not found:
        return
    names = ", ".join(map(processes.name, found))
    end_processes(found)
    say(f"an environment left processes behind, ended: {names}")


def end_processes(pids: list[int]) -> None:
    """End processes: by SIGTERM, and those that stay by SIGKILL."""
    for pid in pids:
        processes.send(pid, signal.SIGTERM)
        processes.send(pid, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(processes.is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in filter(processes.is_alive, pids):
        processes.send(pid, signal.SIGKILL)


def _ends_itself(pid: int) -> bool:
    """Return whether a process has ended, or will with this one: MPI's, multiprocessing's."""
    if pid in _expected or not processes.is_alive(pid):
        return True
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def clean_up_at_exit() -> None:
    """End the children when this process ends; called early, so that it comes last."""
    atexit.unregister(end_children)
    atexit.register(end_children)


def leave(code: int) -> NoReturn:
    """Exit with a code, within seconds, whatever the environments left behind."""
    threading.Thread(target=_insist, args=(code,), name="leave", daemon=True).start()
    sys.exit(code)


def _insist(code: int) -> None:
    """End this process if it does not end by itself."""
    threading.main_thread().join()
    time.sleep(PATIENCE)
    end_children()
    time.sleep(0.5)
    ours = (threading.current_thread(), threading.main_thread())
    threads = [each.name for each in threading.enumerate() if each not in ours and not each.daemon]
    say(f"an environment left threads behind that do not end: {', '.join(threads) or 'unknown'}")
    exit_now(code)


@contextlib.contextmanager
def exits_are_failures(rank: int) -> Iterator[None]:
    """Let `os._exit` in an environment be an error: a run is done when it says so.

    Forked children end by `os._exit`, as they should.
    """
    owner, before = os.getpid(), os._exit

    def fail(status: int) -> NoReturn:
        if os.getpid() == owner:
            say(f"rank {rank}: the environment ended the process by os._exit({status})")
            status = ExitCode.INTERNAL
        before(status)

    os._exit = fail
    try:
        yield
    finally:
        os._exit = before
