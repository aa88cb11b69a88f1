"""Where ranks that tick by themselves come together before their next merge.

A rank that has flags (a request to stop, say) calls the others. Who is called, or has come to the
merge anyway, adds its tick to a maximum and waits; all go on to that tick. So a stop takes as long
as the tick that the slowest rank is in, and not all those until the merge.
"""

import numpy as np
from mpi4py import MPI

from hpcq.mpi import wait_until

# Flags that a maximum can join, as columns after the tick; then one for each rank that has called.
_FLAGS = 8
_BITS = np.arange(_FLAGS)


class Meeting:
    """Lets ranks agree on a tick that none of them has passed.

    Between two merges each rank comes to `meet` equally often, at the merge at the latest.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        # Calls must not be taken for other messages.
        self._comm = comm.Dup()

    def is_called(self) -> bool:
        """Return whether another rank asks for a meeting; not collective."""
        return bool(self._comm.Iprobe())

    def meet(self, tick: int, flags: int) -> tuple[int, int]:
        """Return the latest tick that any rank has come to, and the flags of all. Collective."""
        comm, nothing = self._comm, np.empty(0, np.int8)
        mine = np.zeros(1 + _FLAGS + comm.size, np.int64)
        mine[0], mine[1 : 1 + _FLAGS] = tick, (flags >> _BITS) & 1
        called = mine[1 + _FLAGS :]
        others = [rank for rank in range(comm.size) if rank != comm.rank]
        calls = [comm.Isend(nothing, rank) for rank in others if flags]
        called[comm.rank] = bool(flags)
        most = np.empty_like(mine)
        wait_until(comm.Iallreduce(mine, most, MPI.MAX).Test)
        # Every call has been sent; none may be left for the next meeting.
        for rank in np.flatnonzero(most[1 + _FLAGS :]).tolist():
            if rank != comm.rank:
                comm.Recv(nothing, rank)
        MPI.Request.Waitall(calls)
        return int(most[0]), int((most[1 : 1 + _FLAGS] << _BITS).sum())

    def free(self) -> None:
        """Release the communicator. Collective."""
        self._comm.Free()
