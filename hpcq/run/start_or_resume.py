"""Begin a job or go on with it, whichever it is time for: ``hpcq run --resume``."""

import json

from mpi4py import MPI

from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.job.toml_io import placeless, toml
from hpcq.mpi import on_root
from hpcq.run import run_directory
from hpcq.run.loop import Log, Training
from hpcq.run.resumable import MAY_CHANGE, MAY_MOVE
from hpcq.run.train import resuming, starting


def proceed(job: Job, comm: MPI.Intracomm, log: Log, pending_signals: list[int]) -> Training:
    """Go on with the job's run if its directory holds one, else begin. Collective.

    What a resumed run may change follows the job file.
    """
    if not on_root(comm, lambda: _holds_run_of(job)):
        return starting(job, comm, log, pending_signals)
    may = MAY_CHANGE + MAY_MOVE
    changes = (f"{k}={toml(v)}" for k, v in _keys(job).items() if k.startswith(may))
    return resuming(job.directory, tuple(changes), comm, log, pending_signals)


def _keys(job: Job) -> dict[str, object]:
    """Return what the job sets, as section.key and value."""
    data = job.model_dump(exclude={"name"}, exclude_none=True)
    return {f"{section}.{key}": v for section, keys in data.items() for key, v in keys.items()}


def _holds_run_of(job: Job) -> bool:
    """Return whether the job's directory holds a run, which must be this job's."""
    path = job.directory / run_directory.JOB
    try:
        found = Job.saved(json.loads(path.read_text()), str(path))
    except FileNotFoundError:
        return False
    except ValueError:
        return True  # `resume` says what is wrong with it
    here, there = _keys(job), _keys(found)
    differences = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in {**there, **here}
        if here.get(key) != there.get(key)
        and not (key in MAY_MOVE and placeless(here.get(key)) == placeless(there.get(key)))
        and not key.startswith((*MAY_CHANGE, "run.directory"))
    ]
    if differences:
        raise JobError(
            f"{job.source}: {job.directory} holds the run of another job "
            f"({'; '.join(differences)}); choose another run.directory, or start again with "
            "--overwrite"
        )
    return True
