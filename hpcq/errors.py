"""The exit codes, and the exceptions that carry them.

Every code is below 110, clear of those that ``mpirun`` uses for its own failures.
"""

import importlib
import os
import re
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """What the shell sees; run/README.md explains each to users."""

    DONE = 0
    USAGE = 64
    CHECKPOINT = 65
    DEPENDENCY = 69
    INTERNAL = 70
    RUN_DIRECTORY = 73
    STORAGE = 74
    STOPPED = 75
    STALLED = 76


# After a second Ctrl-C, which ends a run at once: as shells have it.
INTERRUPTED = 130


class HpcqError(Exception):
    """An error with one message for the user and an exit code; never shown as a traceback.

    ``collective`` is true once every rank is known to raise the same error, so that the
    ranks may leave in good order instead of aborting each other.
    """

    exit_code = ExitCode.INTERNAL
    collective = False

    def on_all_ranks(self) -> Self:
        """Return this error, which every rank is about to raise."""
        self.collective = True
        return self


# What numba reads in the working folder when it is imported.
_NUMBA_SETTINGS = ".numba_config.yaml"


def check_compiler() -> None:
    """Raise a DependencyError where numba is told not to compile, or cannot read its settings."""
    if os.path.exists(_NUMBA_SETTINGS):
        _check_numba_settings()
    threads = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not (threads.isdecimal() and int(threads) > 0):
        raise DependencyError(
            f"NUMBA_NUM_THREADS is {threads!r}: numba expects a number above 0; unset it"
        )
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise DependencyError(
            "NUMBA_DISABLE_JIT is set: without numba's compiler there are no kernels; unset "
            "NUMBA_DISABLE_JIT"
        )


def _check_numba_settings() -> None:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        # Without it numba does not read them, either.
        return
    path = os.path.abspath(_NUMBA_SETTINGS)
    try:
        with open(_NUMBA_SETTINGS) as file:
            found = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        raise DependencyError(
            f"numba cannot read its settings in {path}: {where}; mend the file, or remove it"
        ) from None
    if found is not None and not isinstance(found, dict):
        raise DependencyError(
            f"numba's settings in {path} are no `name: value` lines; mend the file, or remove it"
        )


def check_folder() -> None:
    """Raise a StorageError where the working folder is gone: libraries look for it."""
    try:
        os.getcwd()
    except OSError as error:
        raise StorageError(
            f"the working folder cannot be used: {error.strerror}; if it was removed or made "
            "again, go to another one (`cd` there), and start from there"
        ) from None


# What the command line calls by an option, Python calls otherwise.
_IN_PYTHON = (
    (r"--set ([\w.]+)=", r"\1 = "),
    (r"--set ", ""),
    (r"`hpcq run (?:-n \d+ )?\S+ --resume`", "resume=True"),
    (r"`hpcq resume [^`]+`", "resume=True"),
    (r"`hpcq run (?:-n \d+ )?\S+ --overwrite`", "overwrite=True"),
    (r"--(overwrite|resume)\b", r"\1=True"),
    (r"--job (\S+\.toml)", r"job=\1"),
)


def for_python(error: HpcqError) -> HpcqError:
    """Return the error with its message in the words of the Python API, not of the options."""
    text = str(error)
    for pattern, words in _IN_PYTHON:
        text = re.sub(pattern, words, text)
    error.args = (text,)
    return error


class JobError(HpcqError):
    """The job file or the command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class CheckpointError(HpcqError):
    """A checkpoint is damaged, incomplete, or belongs to another job."""

    exit_code = ExitCode.CHECKPOINT


class FormatError(CheckpointError):
    """A checkpoint is of another format than this version of hpcq reads; it may be whole."""


class UnreadableError(HpcqError):
    """A file could not be looked into, by no fault of its own; it may be whole."""

    exit_code = ExitCode.STORAGE


class DependencyError(HpcqError):
    """A library is missing, or lacks a feature that the job asks for."""

    exit_code = ExitCode.DEPENDENCY


class EnvironmentFault(HpcqError):
    """The user's environment raised, or broke Gymnasium's contract."""

    exit_code = ExitCode.INTERNAL


class UnseededFault(EnvironmentFault):
    """A seed does not decide the environment's first observation."""


class RunDirectoryError(HpcqError):
    """The run directory is taken, missing or not writable."""

    exit_code = ExitCode.RUN_DIRECTORY


class StorageError(HpcqError):
    """Writing failed: disk full, quota, I/O error."""

    exit_code = ExitCode.STORAGE


class TableFull(HpcqError):
    """The states need more memory than the job allows."""

    exit_code = ExitCode.STOPPED


class FileWarning(UserWarning):
    """A file is not quite what it should be; what could be done was done."""
