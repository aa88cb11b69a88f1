"""Run jobs on several numbers of ranks, as `hpcq run` does, in one mpirun.

    mpirun -n 7 python one_job.py FOLDER RUN ...

Each RUN is JOB,RANKS,WRITER: the first RANKS ranks train FOLDER/JOB.toml in FOLDER/RUN.
"""

import sys
import time
from pathlib import Path

from mpi4py import MPI

from hpcq.job.job import Job
from hpcq.run.start_or_resume import to_end, train

folder, world = Path(sys.argv[1]), MPI.COMM_WORLD
for name in sys.argv[2:]:
    job, ranks, writer = name.rsplit(",", 2)
    part = world.Split(0 if world.rank < int(ranks) else MPI.UNDEFINED, world.rank)
    if part != MPI.COMM_NULL:
        changes = (f"run.directory='{folder / name}'", f"checkpoint.writer={writer}")
        checked = Job.load(folder / f"{job}.toml", changes)
        assert to_end(train(checked, part, lambda _: None, [])) == 0
        part.Free()
    # Those who wait leave the processors to those who train.
    everyone = world.Ibarrier()
    while not everyone.Test():
        time.sleep(0.02)
