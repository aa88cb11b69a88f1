import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Yield a real Slurm that runs for all tests of this folder."""
    why = missing()
    if why:
        pytest.skip(f"no Slurm: {why}")
    with Cluster(tmp_path_factory.mktemp("cluster") / "slurm") as running:
        yield running
