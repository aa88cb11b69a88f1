"""Signals that request a stop: recorded from the start on, acted upon between ticks."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# HUP: the terminal was closed, or the connection lost.
STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Recorder:
    """A signal handler that records what comes; a second INT interrupts as usual."""

    def __init__(self) -> None:
        self.pending: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pending.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def wanted() -> list[signal.Signals]:
    """Return the signals that request a stop: all but HUP where it is ignored, as by nohup."""
    return [
        number
        for number in STOP_SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


def record() -> list[int]:
    """Collect the stop signals in a list until this process ends."""
    before = signal.getsignal(signal.SIGUSR1)
    if isinstance(before, _Recorder):
        return before.pending
    recorder = _Recorder()
    for number in wanted():
        signal.signal(number, recorder)
    return recorder.pending


def ignore() -> None:
    """Ignore the stop signals: the end has come anyhow."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the stop signals in a list, with those that `record` has already collected."""
    numbers = wanted()
    before = [signal.getsignal(number) for number in numbers]
    pending = record()
    try:
        yield pending
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def _forget() -> None:
    """Undo in a forked child what would make it record signals, in place of its parent.

    A stop is for the parent, but TERM ends a child: multiprocessing's pools rely on it.
    """
    if isinstance(signal.getsignal(signal.SIGUSR1), _Recorder):
        ignore()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget)
