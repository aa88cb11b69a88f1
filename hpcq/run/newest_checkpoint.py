"""Find the newest whole checkpoint of a run, to go on from."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mpi4py import MPI

from hpcq.checkpoint.files import Listed, by_step, list_aside, rename_by_step, set_aside
from hpcq.checkpoint.header import Header
from hpcq.checkpoint.verification import verify_together
from hpcq.errors import CheckpointError, FormatError, HpcqError
from hpcq.job.job import Job
from hpcq.mpi import on_root
from hpcq.printable import printable
from hpcq.run.resumable import MAY_OVERRIDE, uncounted


def newest(
    comm: MPI.Intracomm, job: Job, relearn: bool, in_memory: Sequence[Path] = ()
) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint (None before the first), and lines to log. Collective.

    Damaged files that are newer are set aside once a whole one is found, so that they no longer
    count as some of those to keep; a file whose name lies gets the right one.

    Parameters
    ----------
    relearn
        whether keys that shape learning may differ: `--override`.
    in_memory
        checkpoints of the run that lie elsewhere, where every rank sees them.

    Raises
    ------
    CheckpointError
        if none is whole, or the newest whole one is of another job. Nothing is renamed.
    UnreadableError, DependencyError
        if one could not be looked into before a whole one was found. Nothing is renamed.
    """
    damaged: dict[Path, CheckpointError] = {}
    listed = on_root(comm, lambda: by_step(job.directory, in_memory))
    for one in listed:
        try:
            if isinstance(one.found, HpcqError):
                raise one.found.on_all_ranks()
            header, _ = verify_together(comm, one.path, one.found)
        except FormatError:
            raise
        except CheckpointError as error:
            damaged[one.path] = error
            continue
        return on_root(comm, partial(_chosen, listed, one, header, damaged, job, relearn))
    on_root(comm, lambda: _refuse(job.directory, damaged))
    return None, [f"no checkpoint in {job.directory} yet: starting from the beginning"]


def _chosen(
    listed: Sequence[Listed],
    one: Listed,
    header: Header,
    damaged: Mapping[Path, CheckpointError],
    job: Job,
    relearn: bool,
) -> tuple[Path, list[str]]:
    notes = _differences(one.path, header, job, relearn)
    set_aside_damaged = [
        f"skipped {error}; renamed to {set_aside(path).name}" for path, error in damaged.items()
    ]
    path, renamed_to = _rename_by_step(listed, one)
    return path, set_aside_damaged + renamed_to + notes


def _refuse(directory: Path, damaged: Mapping[Path, CheckpointError]) -> None:
    """Raise a CheckpointError if there are checkpoints, but none that is whole."""
    if damaged:
        texts = "\n".join(map(str, damaged.values()))
        raise CheckpointError(
            f"{directory}: no checkpoint is whole:\n{texts}\n"
            "start again from the beginning with `hpcq run JOB.toml --overwrite`"
        )
    if aside := list_aside(directory):
        raise CheckpointError(
            f"{directory}: no checkpoint but those set aside as damaged: "
            f"{', '.join(path.name for path in aside)}; give one its old name to have it looked "
            "into again, or start from the beginning with `hpcq run JOB.toml --overwrite`"
        )


def _differences(path: Path, header: Header, job: Job, relearn: bool) -> list[str]:
    """Return lines on what is overridden; refuse a checkpoint that differs in anything else."""
    differences = job.differences(Job.saved(json.loads(header.job), str(path)))
    refused = [key for key in differences if not (relearn and key in MAY_OVERRIDE)]
    if refused:
        raise CheckpointError(
            f"{path} was written by another job: "
            + "; ".join(printable(differences[key]) for key in refused)
            + (
                "\nto go on in spite of this, add --override"
                if not relearn and set(refused) <= set(MAY_OVERRIDE)
                else ""
            )
        )
    notes = [f"overridden: {printable(text)}" for text in differences.values()]
    if differences and (warning := uncounted(header, job)):
        notes.append(warning)
    return notes


def _rename_by_step(listed: Sequence[Listed], newest: Listed) -> tuple[Path, list[str]]:
    """Give every misnamed checkpoint its right name; return that of the newest, and lines to log.

    From here on names tell steps: pruning goes by them.
    """
    path, notes = newest.path, []
    for one in listed:
        if one.misnamed:
            renamed_to = rename_by_step(one)
            notes.append(f"{one.misnamed}; renamed to {renamed_to.name}")
            path = renamed_to if one is newest else path
    return path, notes
