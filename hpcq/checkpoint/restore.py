"""Restore a run from a checkpoint, on any number of ranks.

The rows of a file are in the order of their hashes, and so are the ranks' shares of the table:
each rank reads one contiguous slice.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hpcq.checkpoint import sandbox
from hpcq.checkpoint.columns import from_column
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.reader import find_row, opened, stored_pieces
from hpcq.errors import CheckpointError
from hpcq.hashing import first_hash
from hpcq.learning import saved_state
from hpcq.learning.intervals import first_sums
from hpcq.learning.learner import Learner
from hpcq.learning.progress import Progress
from hpcq.mpi import agree, on_root
from hpcq.printable import printable


def load_table(learner: Learner, path: str | Path) -> None:
    """Read this rank's contiguous slice of a checkpoint's rows into its empty shard. Collective.

    In addition to the shard it needs one bounded piece of memory.
    """
    found = _describe(learner, path)
    agree(learner.comm, lambda: _load_table(learner, path, found))


def load_run(learner: Learner, path: str | Path) -> None:
    """Restore a learner that has not begun to the tick at which the file was saved. Collective."""
    found = _describe(learner, path)

    def load() -> None:
        mine = slice(learner.start, learner.start + learner.count)
        with opened(path, found) as (file, header):
            learner.tick = header.tick
            learner.progress = _progress(header, path)
            expected = saved_state.shapes(learner.algorithm, learner.job.environment.count)
            expected |= saved_state.table_shapes(learner.algorithm, header.rows)
            for name, shape in expected.items():
                if header.extra.get(name) != shape:
                    raise CheckpointError(f"the checkpoint's {name} is not of shape {shape}")
            _load_table(learner, path, found, resumed=True)
            learner.load_environments(lambda field: from_column(field, file[field.dataset][mine]))
            learner.restore_extra(file, header)
            learner.collector.restore(header.tick)

    agree(learner.comm, load)
    learner.restored()


def _progress(header: Header, path: str | Path) -> Progress:
    try:
        return Progress.from_dict(header.progress)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _describe(learner: Learner, path: str | Path) -> dict[str, Any]:
    return on_root(learner.comm, lambda: sandbox.describe(path))


def _load_table(
    learner: Learner, path: str | Path, found: dict[str, Any], resumed: bool = False
) -> None:
    """Read this rank's rows; averages go on where a run is resumed, else they begin anew."""
    rank, ranks = learner.comm.rank, learner.comm.size
    shard = learner.shard
    with opened(path, found) as (file, header):
        start = find_row(file, header, first_hash(rank, ranks))
        stop = find_row(file, header, first_hash(rank + 1, ranks))
        shard.reserve(stop - start)
        for hashes, q, visits, masks in stored_pieces(file, header, start, stop):
            rows = hashes.size
            q = q.reshape(rows, -1).astype(shard.dtype, copy=False)
            if shard.sums:
                sums = first_sums(rows, shard.columns, learner.algorithm.intervals_after or 0)
                if resumed:
                    sums = file["table/intervals"][start : start + rows].reshape(rows, -1)
                q, start = np.concatenate([q, sums], axis=1), start + rows
            if not shard.keeps_visits:
                visits = np.zeros((rows, 0), np.uint32)
            elif not header.visits:
                visits = np.zeros(q.shape, np.uint32)
            if not shard.keeps_masks:
                masks = np.zeros((rows, 0), np.uint64)
            elif not header.masks:
                masks = np.zeros((rows, shard.mask_words), np.uint64)
            shard.load(hashes, q, visits.reshape(rows, -1), masks.reshape(rows, -1))


def check_compatible(learner: Learner, header: Header, path: str | Path) -> None:
    """Refuse a table that is not of this environment's states and actions.

    Raises
    ------
    CheckpointError
        naming what differs.
    """
    environment, algorithm = learner.environment, learner.algorithm
    for what, found, expected in (
        ("environment", header.environment, environment.id),
        ("observation space", header.observation, environment.observation),
        ("actions", header.actions, environment.actions),
        ("action space", header.action, environment.action),
        ("tables", header.tables, algorithm.tables),
        ("combination of tables", header.combine, algorithm.combine),
    ):
        if found != expected:
            raise CheckpointError(
                f"{path}: {what} {printable(found)}, but the job has {printable(expected)}"
            )
