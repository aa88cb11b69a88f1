"""What Slurm does to jobs. Each scenario takes a cluster and some work, and sees it to its end."""

import json
import os
import re
import signal

import launch
from launch import runs_python

from hpcq.run.processes import send


def two_time_limits(cluster, work):
    # The signal comes 30 to 60 s after the start: on a busy machine, too, the run is on by then,
    # and there are two minutes to save it in.
    work.submit("--time=3", "--signal=B:USR1@120")
    work.wait_restart(2)
    work.speed_up()
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
    work.speed_up()
    work.submit().finish()
    assert "resuming" in work.log


def requeued(cluster, work):
    work.submit().wait_saved()
    cluster("scontrol", "requeue", work.number)
    work.wait_restart()
    work.speed_up()
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
        work.speed_up()
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
    cluster.finish(urgent)
    assert "time limit or preemption is near: saving" in work.log
    work.wait(lambda: "== start 2" in work.log and "resuming" in work.log, "the second start")
    cluster("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    work.wait_restart(2)
    work.speed_up()
    cluster("scontrol", "update", "NodeName=n3", "State=RESUME")
    work.finish()
    assert work.log.count("resuming") == 2


def on_two_nodes(cluster, work):
    # Open MPI names shared memory after the host: two simulated nodes on one host would clash.
    work.submit(
        "--nodes=2", "--ntasks=4", overrides=["--set=checkpoint.writer=gather"],
        OMPI_MCA_btl="self,tcp",
    ).wait_saved()  # fmt: skip
    cluster("scontrol", "requeue", work.number)
    work.wait_restart()
    work.speed_up()
    work.finish()
    assert "4 ranks on n[1-2]" in work.log
    assert "warning: 2 nodes save through rank 0" in work.log
    assert launch.summary(work.directory)["ranks"] == 4


def through_srun(cluster, work):
    work.submit("--nodes=1", HPCQ_LAUNCHER="srun").wait_saved()
    cluster("scancel", "--batch", "--signal=USR1", work.number)
    work.wait_restart()
    work.speed_up()
    work.finish()
    assert launch.summary(work.directory)["ranks"] == 2
    assert work.log.count("== saved; requeueing") == 1


def a_rank_killed(cluster, work, **variables):
    """The job goes on where it is."""
    work.submit(**variables).wait_saved()
    work.speed_up()
    os.kill(json.loads((work.directory / "run.lock").read_text())["pid"], signal.SIGKILL)
    work.finish()
    assert cluster.restarts(work.number) == 0
    assert "ended by signal 9" in work.log
    assert "retry 1 of 3: from step" in work.log
    assert "resuming" in work.log
    assert work.log.count("learning again") == 1
    assert not list(work.folder.glob(".hpcq-*"))


def a_rank_killed_under_srun(cluster, work):
    """It ends the other ranks itself, and ends with their code, not with that of the first."""
    a_rank_killed(cluster, work, HPCQ_LAUNCHER="srun")
    assert "rank 0 on n" in work.log


def a_node_that_freezes_and_is_lost(cluster, work):
    """With the ranks of both nodes it goes on after the one, with those of one after the other."""
    work.submit(
        "--partition=pair", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2",
        overrides=["--set=checkpoint.writer=gather", "--set=run.stall_timeout=20"],
        OMPI_MCA_btl="self,tcp",
    ).wait_saved()  # fmt: skip
    for pid in cluster.processes_of("n5"):
        if runs_python(pid):
            send(pid, signal.SIGSTOP)
    work.wait(lambda: "learning again" in work.log, "it to go on")
    assert "waits for other ranks" in work.log
    work.speed_up()
    cluster.lose("n5")
    work.finish()
    assert "node n5 does not answer: going on without, with 2 ranks" in work.log
    assert cluster.restarts(work.number) == 0
    assert work.log.count("learning again") == 2
    assert launch.summary(work.directory)["ranks"] == 2


def a_slurmd_killed(cluster, work):
    """Its ranks go on, until Slurm takes the node for lost; then those of the other one do."""
    work.submit(
        "--partition=second", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2",
        overrides=["--set=checkpoint.writer=gather"],
        OMPI_MCA_btl="self,tcp",
    ).wait_saved()  # fmt: skip
    cluster.kill_slurmd("n7")
    work.speed_up()
    cluster.lose("n7")
    work.finish()
    assert re.search(r"node n7 is DOWN\S*: going on without, with 2 ranks", work.log), work.log
    assert cluster.restarts(work.number) == 0
    assert work.log.count("learning again") == 1
    assert launch.summary(work.directory)["ranks"] == 2


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
    "python, killed": a_rank_killed,
    "python, node lost": a_node_that_freezes_and_is_lost,
    "compiled, killed under srun": a_rank_killed_under_srun,
    "python, slurmd killed": a_slurmd_killed,
}
# What also happens to a job of the other kind, or nearly so in another scenario.
REPEATED = (
    "compiled, two time limits",
    "python, cancelled",
    "python, requeued",
    "python, slurmd killed",
)
