"""The exit codes, and the exceptions that carry them.

Every code is below 110, clear of those that ``mpirun`` uses for its own failures.
"""

from enum import IntEnum


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


class FileWarning(UserWarning):
    """A file is not quite what it should be; what could be done was done."""
