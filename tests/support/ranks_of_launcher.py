"""The rank of this process before MPI has started, by the variables of whichever launcher."""

import os

from hpcq.run.processes import RANKS


def own_rank():
    """Return the rank as text; "0" without a launcher."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0")
