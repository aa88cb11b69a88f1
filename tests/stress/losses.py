#!/usr/bin/env python
"""Kill ranks, stop them, lose nodes, at random moments: the job goes on by itself.

    python tests/stress/losses.py --losses 20 [--slurm]

A chain is one job that loses something about five times, goes on each time (`--retries`), and ends
in the digest of the uninterrupted run. It is `hpcq run -n 3` and loses ranks, killed or stopped.
With --slurm it is slurm/train.sbatch on two simulated nodes (tests/slurm), and at last it loses the
second of them.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "slurm")]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

from cluster import Cluster
from launch import HPCQ, end, runs_python, wait_for
from work import JOBS, Work, uninterrupted

from hpcq.cluster.supervise import is_rank
from hpcq.run import processes

RETRIES = "9"
MOST_SECONDS = 3.0
# So many seconds take the first save, with its kernels, on a busy machine.
STALL = "--set=run.stall_timeout=20"
# A rank that is stopped before it joins is ended after so many.
os.environ["HPCQ_START_TIMEOUT"] = "60"
AGAIN = re.compile(r"learning again ([\d.]+) s after")


class Local(Work):
    """A job on three ranks of this machine."""

    def submit(self):
        """Start it."""
        command = [HPCQ, "run", "-n", "3", "--retries", RETRIES, "job.toml", "--resume", STALL]
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HPCQ_TEST_SLOWLY": str(self.mark)},
            )

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def started(self):
        """Return the processes that belong to the job."""
        return list(processes.descendants(self.process.pid))

    def lose_node(self):
        """There is none to lose."""
        return False

    def finish(self):
        code = self.process.wait(600)
        assert code == 0, self.log

    def end(self):
        """Leave nothing running."""
        end(self.process)


class Remote(Work):
    """A job on four ranks of two nodes."""

    def submit(self):
        super().submit(
            "--partition=pair", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2",
            overrides=["--set=checkpoint.writer=gather", STALL],
            HPCQ_RETRIES=RETRIES, OMPI_MCA_btl="self,tcp",
        )  # fmt: skip

    def started(self):
        return [pid for node in ("n4", "n5") for pid in self.cluster.processes_of(node)]

    def lose_node(self):
        self.cluster.lose("n5")
        return True

    def finish(self):
        super().finish()
        assert self.cluster.restarts(self.number) == 0

    def end(self):
        self.cluster("scancel", "--full", self.number)


def ranks_of(work):
    """Return the ranks that have begun, without what they have started themselves."""
    found = {pid for pid in work.started() if runs_python(pid) and is_rank(processes.environ(pid))}
    return [pid for pid in found if processes.parent(pid) not in found]


def lose_one(work, rng):
    """Kill or stop a rank, and wait for it to end; return whether there was one."""
    time.sleep(rng.uniform(0.0, MOST_SECONDS))
    ranks = ranks_of(work)
    if not ranks:
        return False
    victim = rng.choice(ranks)
    processes.send(victim, rng.choices((signal.SIGKILL, signal.SIGSTOP), (5, 1))[0])
    wait_for(lambda: not processes.is_alive(victim))
    return True


def learns(work):
    """Return whether a job that has lost something has begun to learn again."""
    return "starting again" not in work.log or AGAIN.search(
        work.log.rpartition("starting again")[2]
    )


def chain(work, losses, rng):
    """Run a job that loses something so many times; return the seconds that each restart took."""
    work.submit()
    try:
        wait_for(lambda: list(work.directory.glob("ckpt-*.h5")))
        for done in range(losses):
            # Now and then while it starts again.
            if rng.random() < 0.75:
                wait_for(lambda: learns(work))
            before = work.log.count("starting again")
            if done < losses - 1 or not work.lose_node():
                while not lose_one(work, rng):
                    pass
            wait_for(lambda before=before: work.log.count("starting again") > before)
        work.speed_up()
        work.finish()
        return [float(seconds) for seconds in AGAIN.findall(work.log)]
    finally:
        work.end()


def main():
    """Run chains until there were enough losses; exit with 1 if one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", type=int, default=20)
    parser.add_argument("--chain", type=int, default=5, help="losses of one chain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slurm", action="store_true", help="as root, with tests/slurm/install")
    options = parser.parse_args()
    wrong, seconds = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = {kind: uninterrupted(folder, kind) for kind in JOBS}
        for number, done in enumerate(range(0, options.losses, options.chain)):
            kind = list(JOBS)[number % len(JOBS)]
            losses = min(options.chain, options.losses - done)
            rng = random.Random(f"{options.seed} {number}")
            # A cluster has one node to lose.
            place = folder / f"slurm{number}"
            with Cluster(place) if options.slurm else contextlib.nullcontext() as cluster:
                work = (Remote if cluster else Local)(cluster, folder / str(number), kind)
                seconds += chain(work, losses, rng)
            right = work.digest() == digests[kind]
            wrong += not right
            told = "the uninterrupted digest" if right else f"ANOTHER DIGEST\n{work.log}"
            print(f"{kind}, {losses} losses: {told}", flush=True)
    print(
        f"{options.losses} losses, {wrong} wrong; {len(seconds)} restarts, learning again after "
        f"{min(seconds):.1f} to {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
