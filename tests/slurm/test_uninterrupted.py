"""Whatever Slurm does to a job, it ends in the digest of the uninterrupted run.

Slurm's limits count in minutes and it looks at them every 30 s. So the scenarios run side by side,
beside the tests of the other files: conftest.py starts them, and here they are awaited.
"""

import pytest
from scenarios import REPEATED, SCENARIOS
from soaked import soak
from work import JOBS, uninterrupted

NAMES = [*(name for name in SCENARIOS if name not in REPEATED), *soak(*REPEATED)]


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {kind: uninterrupted(folder, kind) for kind in JOBS}


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", NAMES)
def test_ends_in_the_uninterrupted_digest(name, running, digests):
    work = running[name].result()
    assert work.digest() == digests[work.kind]
