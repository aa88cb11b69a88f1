"""Say something where it must not decide what happens: the reader may sleep, or be gone."""

import contextlib
import os
import sys
import threading

SECONDS = 1.0


def say(message: str, descriptor: int = 2) -> bool:
    """Print a message on standard error; return whether that was done, in a second at most."""
    said = threading.Event()

    def write() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        text = f"hpcq: {message}".rstrip("\n").encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            # One write: other ranks print at the same time.
            os.write(descriptor, text + b"\n")
            said.set()

    threading.Thread(target=write, daemon=True).start()
    return said.wait(SECONDS)


def silence() -> None:
    """Let standard error lead nowhere, so that nothing more waits for it."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
