"""Run the MPI tests on every rank of this mpirun; only rank 0 prints, any rank's failure counts.

A test that fails on one rank may leave the others in a collective call: such a rank aborts all.
"""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from mpi4py import MPI

comm = MPI.COMM_WORLD
output = io.StringIO()
arguments = [
    "-q",
    "--color=no",
    "--only-mpi",
    "-p",
    "no:cacheprovider",
    "-x",
    *(sys.argv[1:] or [str(Path(__file__).parent)]),
]
if comm.rank == 0:
    code = pytest.main(arguments)
else:
    with redirect_stdout(output):
        code = pytest.main(arguments)
if code != 0:
    print(f"rank {comm.rank} failed:\n{output.getvalue()}", file=sys.stderr, flush=True)
    comm.Abort(int(code))
comm.Barrier()
