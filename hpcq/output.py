"""Messages to standard output and error, which can be closed, full, or without a reader.

Messages decide nothing: what cannot be written is dropped and remembered, and what a terminal
cannot show is escaped. What hpcq says goes through copies of the descriptors, so that it arrives
even where a user's code has closed or replaced its standard streams.
"""

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from hpcq.printable import printable_lines

# Seconds that a descriptor in non-blocking mode may take to accept a piece.
_PATIENCE = 10.0


class Writer(io.FileIO):
    """A descriptor; writing to it never raises."""

    def __init__(self, number: int, failed: str = "") -> None:
        super().__init__(os.dup(number), "wb")
        self.failed = failed
        """why something could not be written; empty: all could"""

    def write(self, data: Any, /) -> int:
        """Write, or drop what cannot be written."""
        try:
            written = super().write(data)
            while written is None and select.select([], [self], [], _PATIENCE)[1]:
                written = super().write(data)
        except BrokenPipeError:
            written = None  # the reader has seen enough
        except OSError as error:
            written, self.failed = None, self.failed or error.strerror or str(error)
        return len(data) if written is None else written

    def write_all(self, data: bytes) -> None:
        """Write all of it, or drop what cannot be written."""
        while data:
            data = data[self.write(data) :]


class _Stream(io.TextIOWrapper):
    """Text over a `Writer`, which nobody closes."""

    def __init__(self, writer: Writer, like: TextIO | None) -> None:
        super().__init__(
            io.BufferedWriter(writer),
            encoding=getattr(like, "encoding", None) or "utf-8",
            errors="backslashreplace",
            line_buffering=getattr(like, "line_buffering", True),
            write_through=getattr(like, "write_through", False),
        )

    def close(self) -> None:
        """Flush only."""
        self.flush()


class _Channel:
    """Standard output or error."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self._writers: list[Writer] = []
        self._stream: TextIO | None = None

    def protect(self, closed: bool) -> None:
        """Replace the stream, unless somebody else has, and keep one for hpcq's own messages."""
        original = getattr(sys, f"__{self.name}__")
        if self._writers or getattr(sys, self.name) is not original:
            return
        # One for hpcq, and one for everybody else, who may close or detach it.
        why = os.strerror(errno.EBADF) if closed else ""
        self._writers = [Writer(self.number, why), Writer(self.number, why)]
        self._stream, shared = (_Stream(writer, original) for writer in self._writers)
        setattr(sys, self.name, shared)
        setattr(sys, f"__{self.name}__", shared)

    @property
    def stream(self) -> TextIO:
        """Where hpcq writes."""
        return self._stream or getattr(sys, self.name) or io.StringIO()

    @property
    def failed(self) -> str:
        """Why something could not be written; empty: all could."""
        self.flush()
        return next(filter(None, (writer.failed for writer in self._writers)), "")

    def flush(self) -> None:
        """Write what is buffered, also what others have written."""
        # What the first one is, others decide.
        streams: tuple[Any, ...] = (getattr(sys, self.name), self._stream)
        for stream in streams:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()

    def write(self, text: str) -> None:
        """Write at once, after all that was written before."""
        self.flush()
        with contextlib.suppress(OSError, ValueError):
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                # A stream of somebody else's.
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()


_OUT, _ERR = _Channel("stdout", 1), _Channel("stderr", 2)


def protect() -> None:
    """Prepare this process's standard streams; call it before anything opens a file."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file that is opened, a checkpoint, would get this number.
            os.open(os.devnull, os.O_RDWR)
            closed.add(number)
    for channel in (_OUT, _ERR):
        channel.protect(channel.number in closed)


def echo(text: object = "", err: bool = False, nl: bool = True) -> None:
    """Print to standard output, or error; never raises, whatever became of it."""
    if err:
        _OUT.flush()
    (_ERR if err else _OUT).write(f"{text}\n" if nl else str(text))


def complain(message: str) -> None:
    """Print an error after everything that was printed before it."""
    echo(f"hpcq: {printable_lines(message)}", err=True)


def stdout() -> TextIO:
    """Return the stream of standard output; writing to it does not raise after `protect`."""
    return _OUT.stream


def settle() -> str:
    """Write all that is left; return why output was lost, or an empty text.

    A reader that went away is no loss. From here on the standard streams are hpcq's own again: the
    interpreter flushes them when it ends.
    """
    why = _OUT.failed
    for channel in (_OUT, _ERR):
        channel.flush()
        setattr(sys, channel.name, channel.stream)
    return why
