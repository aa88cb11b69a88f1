"""Whatever Slurm does to a job, it ends in the digest of the uninterrupted run.

Slurm's limits count in minutes and it looks at them every 30 s: the scenarios run side by side.
"""

from concurrent.futures import ThreadPoolExecutor

import launch
import pytest
from work import JOBS, Work, uninterrupted


def two_time_limits(cluster, work):
    work.submit("--time=1", "--signal=B:USR1@30")
    work.wait_restart(2)
    work.hurry()
    cluster("scontrol", "update", f"JobId={work.number}", "TimeLimit=30")
    work.finish()
    assert cluster.restarts(work.number) == 2
    for start in (1, 2, 3):
        assert work.log.count(f"== start {start} of job {work.number}: 2 ranks on n") == 1
    assert work.log.count("resuming") == 2
    assert work.log.count("== saved; requeueing") == 2


def cancelled(cluster, work):
    work.submit().wait_saved()
    first, before = work.number, work.log
    cluster("scancel", first)
    work.finish("CANCELLED")
    assert cluster.restarts(first) == 0
    assert "requeueing" not in before + work.log
    work.hurry()
    work.submit().finish()
    assert "resuming" in work.log


def requeued(cluster, work):
    work.submit().wait_saved()
    cluster("scontrol", "requeue", work.number)
    work.wait_restart()
    work.hurry()
    work.finish()
    assert cluster.restarts(work.number) == 1
    assert "resuming" in work.log


def drained(cluster, work):
    work.submit().wait_saved()
    node = cluster.job(work.number)["BatchHost"]
    cluster("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        cluster("scontrol", "requeue", work.number)
        work.wait_restart()
        work.hurry()
        work.finish()
        assert cluster.job(work.number)["BatchHost"] != node
    finally:
        cluster("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert "resuming" in work.log


def preempted_then_its_node_lost(cluster, work):
    """The preempted job gets USR1, as before a time limit; the lost node nobody announces."""
    work.submit("--partition=spare").wait_saved()
    urgent = cluster.submit(
        "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 3", cwd=work.folder
    )
    assert cluster.finish(urgent) == "COMPLETED"
    assert "time limit or preemption is near: saving" in work.log
    work.wait(lambda: "== start 2" in work.log and "resuming" in work.log, "the second start")
    cluster("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    work.wait_restart(2)
    work.hurry()
    cluster("scontrol", "update", "NodeName=n3", "State=RESUME")
    work.finish()
    assert work.log.count("resuming") == 2


def on_two_nodes(cluster, work):
    # Open MPI names shared memory after the host: two simulated nodes on one host would clash.
    work.submit("--nodes=2", "--ntasks=4", OMPI_MCA_btl="self,tcp").wait_saved()
    cluster("scontrol", "requeue", work.number)
    work.wait_restart()
    work.hurry()
    work.finish()
    assert "4 ranks on n[1-2]" in work.log
    assert launch.summary(work.directory)["ranks"] == 4


def through_srun(cluster, work):
    work.submit("--nodes=1", HPCQ_LAUNCHER="srun").wait_saved()
    cluster("scancel", "--batch", "--signal=USR1", work.number)
    work.wait_restart()
    work.hurry()
    work.finish()
    assert launch.summary(work.directory)["ranks"] == 2
    assert work.log.count("== saved; requeueing") == 1


SCENARIOS = {
    "compiled, two time limits": two_time_limits,
    "python, two time limits": two_time_limits,
    "compiled, cancelled": cancelled,
    "python, cancelled": cancelled,
    "python, requeued": requeued,
    "compiled, requeued": requeued,
    "python, drained": drained,
    "python, preempted": preempted_then_its_node_lost,
    "python, two nodes": on_two_nodes,
    "python, srun": through_srun,
}


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {kind: uninterrupted(folder, kind) for kind in JOBS}


@pytest.fixture(scope="module")
def running(cluster, digests, tmp_path_factory):
    def run(name, body):
        work = Work(cluster, tmp_path_factory.mktemp("job") / "work", name.split(",")[0])
        body(cluster, work)
        return work

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(run, name, body) for name, body in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_ends_in_the_uninterrupted_digest(name, running, digests):
    work = running[name].result()
    assert work.digest() == digests[work.kind]
