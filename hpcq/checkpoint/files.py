"""The checkpoints of a run directory: their names, which is the newest, which are kept."""

import bisect
import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcq import disk
from hpcq.checkpoint import sandbox
from hpcq.errors import CheckpointError, FileWarning, HpcqError

BEST = "best.h5"
# What the name of a file ends in that is no checkpoint of its run any more.
DAMAGED, MISNAMED = ".damaged", ".misnamed"

_NAME = re.compile(r"^ckpt-(\d{15,})\.h5$")


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint after `step` environment steps."""
    return f"ckpt-{step:015d}.h5"


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the published checkpoints of a run directory, by their names the newest first."""
    paths = [directory / name for name in os.listdir(directory) if _NAME.match(name)]
    return sorted(paths, key=lambda path: (_named(path), path.name), reverse=True)


@dataclass(frozen=True)
class Listed:
    """A checkpoint of a run directory."""

    path: Path
    found: sandbox.Found | HpcqError
    """what `sandbox.describe` returns, or raises"""

    @property
    def step(self) -> int:
        """The step at which it was written: that in the file, where it can be read."""
        if isinstance(self.found, HpcqError):
            return _named(self.path) or 0
        return self.found["attributes"]["step"]

    @property
    def misnamed(self) -> str:
        """What is wrong with its name; empty if nothing is."""
        if not claims_other_step(self.path, self.step):
            return ""
        return f"{self.path} holds step {self.step:,}, not that of its name"


def _named(path: Path) -> int | None:
    """Return the step in the name of a checkpoint."""
    match = _NAME.match(path.name)
    return int(match[1]) if match else None


def claims_other_step(path: Path, step: int) -> bool:
    """Return whether a file's name is that of the checkpoint of another step."""
    return _named(path) not in (None, step)


def by_step(directory: Path, others: Sequence[Path] = ()) -> list[Listed]:
    """Return the checkpoints of a run directory, and others, by their steps the newest first."""
    paths = [*list_checkpoints(directory), *others]
    listed = map(Listed, paths, sandbox.describe_each(paths))
    # Of equal steps, the one whose name tells the truth, and that of the directory.
    return sorted(listed, key=lambda one: (-one.step, bool(one.misnamed)))


def locate(path: str | Path) -> tuple[Path, sandbox.Found | None]:
    """Return the file, or the newest checkpoint of the run directory, that `path` names.

    With it comes what `sandbox.describe` says of it, if that is known. A name that lies is a
    `FileWarning`.

    Raises
    ------
    CheckpointError
        if a directory holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path, None
    listed = by_step(path)
    for one in listed:
        if one.misnamed:
            warnings.warn(one.misnamed, FileWarning, stacklevel=3)
    for newest in listed:
        return newest.path, None if isinstance(newest.found, HpcqError) else newest.found
    raise CheckpointError(f"{path}: no checkpoint (ckpt-STEP.h5) in this directory")


def set_aside(path: Path, suffix: str = DAMAGED) -> Path:
    """Rename a file that is no checkpoint of its run, so that it does not count as one.

    Return its new name; nothing that has been set aside before is replaced.
    """
    number, aside = 1, path.with_name(path.name + suffix)
    while os.path.lexists(aside):
        number, aside = number + 1, path.with_name(f"{path.name}{suffix}.{number}")
    with contextlib.suppress(OSError):
        path.rename(aside)
        return aside
    return path


def rename_by_step(one: Listed) -> Path:
    """Give a misnamed checkpoint the name of its step; set it aside where another file has that."""
    right = one.path.with_name(checkpoint_name(one.step))
    if os.path.lexists(right):
        return set_aside(one.path, MISNAMED)
    with contextlib.suppress(OSError):
        one.path.rename(right)
        return right
    return one.path


def list_aside(directory: Path) -> list[Path]:
    """Return the checkpoints of a run directory that `set_aside` has renamed."""
    names = (f"ckpt-*.h5{suffix}*" for suffix in (DAMAGED, MISNAMED))
    return sorted(path for name in names for path in directory.glob(name))


def remove_all(directory: Path) -> None:
    """Remove every checkpoint, also those set aside, and temporaries of killed runs."""
    prune(directory, 0)
    for path in list_aside(directory):
        _remove(path)


def prune(
    directory: Path,
    keep: int,
    newest: Path | None = None,
    milestones: frozenset[int] = frozenset(),
) -> None:
    """Remove all but the `keep` newest checkpoints, and temporaries of killed runs.

    The file `newest` and, of each of the steps `milestones`, the first one at or after it stay in
    any case: asynchronous runs are saved where all ranks come to a common tick.
    """
    oldest_first = list_checkpoints(directory)[::-1]
    names = [path.name for path in oldest_first]
    at = {bisect.bisect_left(names, checkpoint_name(step)) for step in milestones}
    spared = {oldest_first[i] for i in at if i < len(names)}
    passing = [path for path in oldest_first[::-1] if path not in spared - {newest}]
    for path in passing[keep:]:
        if path != newest:
            _remove(path)
    for path in directory.glob(f"*{disk.PARTIAL}"):
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file; a folder of its name is somebody else's and stays."""
    with contextlib.suppress(IsADirectoryError):
        path.unlink(missing_ok=True)


def keep_best(checkpoint: Path) -> None:
    """Keep a checkpoint as best.h5, in place of the one before, whole or not at all.

    It is another name of the same file where the disk knows such names, and stays when the
    checkpoint is pruned.
    """
    best = checkpoint.with_name(BEST)
    temporary = best.with_name(BEST + disk.PARTIAL)
    temporary.unlink(missing_ok=True)
    try:
        os.link(checkpoint, temporary)
    except OSError:
        with open(disk.make(temporary), "wb") as copy, open(checkpoint, "rb") as file:
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
    disk.put(temporary, best)
