"""Users' code may raise anything, and so may the conversion and the text of what it returns."""

import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

# An environment that is not closed by then stays open; all of a rank have as long together.
CLOSE_SECONDS = 10.0
# Longer texts are cut.
_MOST_OF_AN_ERROR = 20_000


def attempt(function: Callable, *arguments: Any, **kwargs: Any) -> tuple[Any, BaseException | None]:
    """Return (result, None), or (None, what was raised); Ctrl-C passes."""
    try:
        return function(*arguments, **kwargs), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return None, error


def close(env: Any, until: float | None = None) -> None:
    """Close an environment; errors are ignored, and what takes too long is left.

    Parameters
    ----------
    until
        the `time.monotonic` at which it is too long; default: `CLOSE_SECONDS` from now.
    """
    seconds = CLOSE_SECONDS if until is None else until - time.monotonic()
    if threading.current_thread() is not threading.main_thread():
        # Only there can a signal interrupt it.
        attempt(lambda: env.close())
        return
    if seconds <= 0:
        return
    inside = True

    def late(number: int, frame: Any) -> None:
        if inside:
            raise TimeoutError(f"close() took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        attempt(lambda: env.close())
        inside = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def format_error(error: BaseException) -> str:
    """Return the text of an exception of the user's code: the traceback, or the syntax error."""
    alone = isinstance(error, SyntaxError)
    make = traceback.format_exception_only if alone else traceback.format_exception
    lines, failed = attempt(make, error)
    text = f"{type(error).__name__}, whose text cannot be made" if failed else "".join(lines)
    half = _MOST_OF_AN_ERROR // 2
    return (text if len(text) <= 2 * half else f"{text[:half]}\n...\n{text[-half:]}").rstrip()


def brief(error: BaseException) -> str:
    """Return type and text of an exception on one line."""
    text, failed = attempt(str, error)
    return type(error).__name__ if failed or not text else f"{type(error).__name__}: {text}"


def cut_short(value: Any, most: int = 200) -> str:
    """Return a value as text of bounded length."""
    text, failed = attempt(str if isinstance(value, np.generic) else repr, value)
    if failed or not isinstance(text, str):
        return f"a {type(value).__name__} whose text cannot be made"
    return text if len(text) <= most else f"{text[:most]} ..."


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a value, () for a number; None if NumPy cannot say it."""
    shape, failed = attempt(np.shape, value)
    return None if failed else shape
