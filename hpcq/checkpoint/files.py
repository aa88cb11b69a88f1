"""The checkpoints of a run directory: their names, which is the newest, which are kept."""

import bisect
import contextlib
import os
import re
import shutil
from pathlib import Path

from hpcq.errors import CheckpointError

BEST = "best.h5"

_NAME = re.compile(r"^ckpt-(\d{15,})\.h5$")


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint after `step` environment steps."""
    return f"ckpt-{step:015d}.h5"


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the published checkpoints of a run directory, newest first."""
    found = [(int(m[1]), directory / m[0]) for m in map(_NAME.match, os.listdir(directory)) if m]
    return [path for _, path in sorted(found, reverse=True)]


def checkpoint_of(path: str | Path) -> Path:
    """Return the file, or the newest checkpoint of the run directory, that `path` names.

    Raises
    ------
    CheckpointError
        if a directory holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for newest in list_checkpoints(path):
        return newest
    raise CheckpointError(f"{path}: no checkpoint (ckpt-STEP.h5) in this directory")


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer one; return its new name."""
    aside = path.with_name(path.name + ".damaged")
    with contextlib.suppress(OSError):
        path.rename(aside)
        return aside
    return path


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
            path.unlink()
    for path in directory.glob("*.partial"):
        path.unlink()


def keep_best(checkpoint: Path) -> None:
    """Keep a checkpoint as best.h5, in place of the one before, whole or not at all.

    It is another name of the same file where the disk knows such names, and stays when the
    checkpoint is pruned.
    """
    best = checkpoint.with_name(BEST)
    temporary = best.with_name(BEST + ".partial")
    temporary.unlink(missing_ok=True)
    try:
        os.link(checkpoint, temporary)
    except OSError:
        shutil.copyfile(checkpoint, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, best)
