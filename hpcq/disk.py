"""Small files: written whole and flushed, never through a link; read only where they are files.

A file is flushed before it gets its name, and its folder after: a power loss leaves the old file or
the new one.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PARTIAL = ".partial"

# A file system that cannot flush a folder says one of these.
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
# What can have the name of a file instead.
_OBSTACLES = {
    errno.ELOOP: "it is a symbolic link",
    errno.EISDIR: "it is a directory",
    errno.ENXIO: "it is not a regular file",
}


def make(path: Path) -> int:
    """Create a file and return its descriptor; a file or link of that name is removed, not opened.

    Raises
    ------
    OSError
        naming `path`, also where a folder has that name.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; see `write`."""
    write(path, text.encode())


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, in place of one that has the name.

    Raises
    ------
    OSError
        if it cannot be written; the old file stays.
    """
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` at the end, if there is no error.

    Raises
    ------
    OSError
        if it cannot be written; the old file stays.
    """
    temporary = path.with_name(path.name + PARTIAL)
    file = open(make(temporary), "wb")
    try:
        with file:
            yield file
            _flush(file)
        put(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_text(path: Path, text: str) -> None:
    """Write a file that does not exist yet, whole or not at all.

    Raises
    ------
    FileExistsError
        if something has that name.
    OSError
        if it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            _flush(file)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    flush(path.parent)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def put(temporary: Path, path: Path) -> None:
    """Give a flushed file its name, in place of one that has it, and flush the folder."""
    os.replace(temporary, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


def append(path: Path) -> IO[bytes]:
    """Open a file to add to its end; made where it is missing.

    Raises
    ------
    OSError
        if it is a link or no file, or cannot be opened; never waits for a reader.
    """
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return open(descriptor, "ab")


def open_own(path: Path, flags: int) -> int:
    """Open a file that is hpcq's own, neither through a link nor where it is no file.

    Raises
    ------
    OSError
        saying what has that name instead.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in _OBSTACLES:
            raise OSError(error.errno, _OBSTACLES[error.errno], str(path)) from None
        raise
    _check_file(descriptor, path)
    return descriptor


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading, through links.

    Raises
    ------
    OSError
        if it is no file, such as a pipe or a device: nothing waits for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    _check_file(descriptor, path)
    return open(descriptor, "rb")


def read(path: Path, most: int) -> bytes:
    """Return the content of a file of at most `most` bytes.

    Raises
    ------
    OSError
        if it cannot be read, is no file, or is larger.
    """
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return data


def _check_file(descriptor: int, path: Path) -> None:
    """Close what is no regular file, and raise."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, _OBSTACLES[errno.ENXIO], str(path))


def in_the_way(error: OSError) -> bool:
    """Return whether an error says that something else has the name of a file."""
    return error.errno in (*_OBSTACLES, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)


def failed(error: OSError) -> bool:
    """Return whether an error is the disk's; the others say that a name cannot be written to."""
    mistakes = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EINVAL)
    return not in_the_way(error) and error.errno not in mistakes
