"""Run hpcq and kill this rank in a given phase of a checkpoint.

    mpirun -n 3 python killed_in.py PHASE RANK CHECKPOINT run job.toml ...

RANK kills itself in PHASE of its CHECKPOINT-th checkpoint (from 1).
"""

import os
import signal
import sys

import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False

from ranks_of_launcher import own_rank

from hpcq.checkpoint import saving, staging
from hpcq.cli import main

# Where, and whether after the function or before it; `write` in the middle of the file.
PHASES = {
    "before": ("create", False),
    "laid out": ("create", True),
    "write": ("start_writeback", True),
    "flush": ("flush", False),
    "flushed": ("flush", True),
    "compare": ("compare", False),
    "finish": ("finish", False),
    "finished": ("finish", True),
    "published": ("publish", True),
    "pruned": ("prune", True),
}
ONE_RANK = ("before", "laid out", "finish", "finished", "published", "pruned")


def kill_in(phase, rank, number):
    """Wrap the function of a phase so that it kills this process."""
    if own_rank() != rank:
        return
    name, after = PHASES[phase]
    place = saving if name == "prune" else staging.StagingFile
    original, begun = getattr(place, name), []
    save = saving.save

    def counted(*args, **kwargs):
        begun.append(None)
        return save(*args, **kwargs)

    def wrapped(*args, **kwargs):
        due = len(begun) == number
        if due and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    saving.save = counted
    setattr(place, name, wrapped)


if __name__ == "__main__":
    kill_in(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    main(sys.argv[4:])
