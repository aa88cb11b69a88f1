"""Users' code may raise anything, and so may the conversion and the text of what it returns."""

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

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
