"""See which process of this machine dies first: the one that takes the others with it."""

import contextlib
import os
import select
import subprocess


class Deaths:
    """The deaths of some processes, seen as they come, by descriptors that are of a process."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, str] = {}
        """descriptors, and what their processes are called"""
        self._known: set[int] = set()
        self.first = ""
        """what died first; empty as long as nothing did, and where that has no name"""

    def watch(self, pid: int, name: str) -> None:
        """Watch a process, unless it is watched already."""
        # Before Linux 5.3 there are no such descriptors: then nobody is named.
        with contextlib.suppress(OSError):
            if pid not in self._known:
                descriptor = os.pidfd_open(pid)
                self._known.add(pid)
                self._watched[descriptor] = name
                self._poll.register(descriptor, select.POLLIN)

    def wait(self, process: subprocess.Popen, seconds: float) -> None:
        """Wait until something dies, or so many seconds; or for `process` alone."""
        if not self._watched:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            return
        dead = [descriptor for descriptor, _ in self._poll.poll(1000 * seconds)]
        names = [self._watched.pop(descriptor) for descriptor in dead]
        self.first = self.first or " or ".join(filter(None, names))
        for descriptor in dead:
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched.clear()
