"""Where compiled kernels are kept. Needs no numba."""

import os
from pathlib import Path


def wanted() -> Path:
    """Return ``$HPCQ_CACHE_DIR``, or hpcq's folder in the user's cache; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("HPCQ_CACHE_DIR") or Path(home) / "hpcq")
