import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, missing
from scenarios import SCENARIOS
from work import Work


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Yield a real Slurm that runs for all tests of this folder."""
    why = missing()
    if why:
        pytest.skip(f"no Slurm: {why}")
    with Cluster(tmp_path_factory.mktemp("cluster") / "slurm") as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def running(request, cluster, tmp_path_factory):
    """Start the scenarios of those tests that were chosen; yield their futures by name."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    names = [spec.params["name"] for spec in chosen if spec and "name" in spec.params]

    def run(name):
        work = Work(cluster, tmp_path_factory.mktemp("job") / "work", name.split(",")[0])
        SCENARIOS[name](cluster, work)
        return work

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(run, name) for name in names}
