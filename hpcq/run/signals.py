"""Signals that request a stop: recorded from the start on, acted upon between ticks."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect USR1, TERM and INT in a list; a second INT interrupts as usual."""
    pending_signals: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        pending_signals.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = [signal.signal(number, handler) for number in STOP_SIGNALS]
    try:
        yield pending_signals
    finally:
        for number, old in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, old)
