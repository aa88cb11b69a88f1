#!/usr/bin/env python
"""Kill jobs that save all the time, at random moments; lose nothing.

    python tests/stress/kills.py --kills 300 [--busy 8] [--supervised]

A chain is one job that is killed about ten times, each time resumed on another number of ranks,
and then left to end. After each kill the newest published checkpoint must verify; each chain must
end in the digest of the uninterrupted run. Killed is a rank, or the launcher, or a rank in a
given phase of a checkpoint. With --supervised most ranks are started by `hpcq run -n`, as Intel MPI
needs: its launcher waits for ever for a rank that dies before it joins.
"""

import argparse
import collections
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])

import killed_in
import make_job
from launch import HPCQ, MPIRUN, end, hpcq, kill, ranks_of, start, summary, wait_for

from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.cluster.supervise import PATIENCE, has_dead_ranks_only
from hpcq.run.run_directory import list_checkpoints

WRITERS = ["direct", "gather", *(["mpio"] if HAS_MPI else [])]
JOBS = {
    "two batches": make_job.make(
        {"id": "Taxi-v4", "count": 255, "max_episode_steps": 50},
        mode={"batches": 2},
        checkpoint={"every": 25},
        run={"steps": 255 * 5000},
    ),
    "compiled": make_job.make(
        {"id": "Taxi-v4", "count": 256, "max_episode_steps": 50},
        learning={"learning_rate": {"schedule": "visits", "exponent": 0.7}},
        checkpoint={"every": 25},
        run={"steps": 256 * 5000},
    ),
    "python": make_job.make(
        {**make_job.CORRIDOR, "count": 20, "reset_every": 10},
        checkpoint={"every": 10},
        run={"steps": 30_000},
    ),
}
MOST_SECONDS = 1.0
# By Open MPI's mpirun, by MPICH's, by Intel's.
KILLED = (137, 9, 255)

# Ends with its parent, however that ends.
BUSY_LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


class Chain:
    """One job, killed and resumed until it may end."""

    # One after the other, over all chains.
    phases = itertools.cycle(killed_in.PHASES)

    def __init__(self, folder, name, rng, supervised):
        self.rng, self.supervised = rng, supervised
        self.directory = folder / "run"
        self.job = make_job.write(folder / "job.toml", JOBS[name])
        self.kills = collections.Counter()

    def arguments(self):
        """Return the command that goes on with the job; now with this writer, now with that."""
        writer = f"--set=checkpoint.writer={self.rng.choice(WRITERS)}"
        if (self.directory / "job.json").exists():
            return ["resume", self.directory, writer]
        return ["run", self.job, f"--set=run.directory='{self.directory}'", writer]

    def kill(self):
        """Start or resume the job and kill it; return whether that came before its end."""
        how = self.rng.choice(("rank", "launcher", "phase", "phase", "phase"))
        ranks = self.rng.choice((1, 2, 3, 4))
        dead = self._in_phase(ranks) if how == "phase" else self._at_random(ranks, how)
        self.kills[how] += dead
        return dead

    def _in_phase(self, ranks):
        phase = next(self.phases)
        rank = 0 if phase in killed_in.ONE_RANK else self.rng.randrange(ranks)
        place = [phase, str(rank), str(self.rng.randrange(1, 8))]
        command = [MPIRUN, "-n", str(ranks), sys.executable, str(SUPPORT / "killed_in.py")]
        done = subprocess.run(
            [*command, *place, *map(str, self.arguments())],
            capture_output=True,
            text=True,
            timeout=600,
            env=dict(os.environ),
            check=False,
        )
        if done.returncode in KILLED:
            return True
        assert done.returncode == 0, f"{place}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return False

    def _start(self, ranks):
        command, *rest = self.arguments()
        if self.supervised:
            return start(None, command, "-n", ranks, *rest)
        return start(ranks, command, *rest)

    def _at_random(self, ranks, how):
        process = self._start(ranks)
        try:
            lock = self.directory / "run.lock"
            wait_for(lambda: lock.exists() or process.poll() is not None)
            time.sleep(self.rng.uniform(0.0, 2 * MOST_SECONDS) ** 2 / 2)
            victims = ranks_of(process, ranks)
            if not victims:
                return False
            kill(process.pid if how == "launcher" else self.rng.choice(victims))
            if ended(process) == 0:
                return False
            wait_for(lambda: not any(map(alive, victims)), 60)
            return True
        finally:
            end(process)


def ended(process):
    """Return the exit code of a job of which a process was killed; say where one that stays is.

    An mpirun that does not notice that its ranks are dead is ended, as `hpcq run -n` does it.
    """
    unnoticed = 0
    for _ in range(120):
        try:
            process.communicate(timeout=1)
            return process.returncode
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode(errors="replace")
        unnoticed = unnoticed + 1 if has_dead_ranks_only(process.pid) else 0
        if unnoticed == PATIENCE:
            print("mpirun stays although its ranks are dead: ended", flush=True)
            kill(process.pid)
    tree = subprocess.run(
        ["ps", "-eo", "pid,ppid,stat,wchan:20,etimes,args"], stdout=subprocess.PIPE, check=False
    )
    raise AssertionError(f"it goes on:\n{said}\n{tree.stdout.decode()}")


@contextlib.contextmanager
def busy_loops(count):
    """Let so many processes take processor time meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def alive(pid):
    """Return whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def main():
    """Run chains until there were enough kills; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--chain", type=int, default=10, help="kills of one chain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--busy", type=int, default=0, help="processes that only take time")
    parser.add_argument("--supervised", action="store_true")
    options = parser.parse_args()
    with busy_loops(options.busy):
        lost = run_chains(options)
    sys.exit(bool(lost))


def run_chains(options):
    """Run chains until there were enough kills; return what was lost."""
    digests, total = {}, collections.Counter()
    verified = chains = lost = 0
    while sum(total.values()) < options.kills:
        chains += 1
        name = list(JOBS)[chains % len(JOBS)]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{options.seed} {chains}")
            chain = Chain(Path(folder), name, rng, options.supervised)
            wanted = min(options.chain, options.kills - sum(total.values()))
            while sum(chain.kills.values()) < wanted and chain.kill():
                newest = list_checkpoints(chain.directory)[:1]
                good = not newest or verifies(newest[0])
                verified += len(newest)
                if not good:
                    lost += 1
                    print(f"LOST: {newest[0]} of chain {chains} does not verify", flush=True)
            total += chain.kills
            if name not in digests:
                digests[name] = uninterrupted(Path(folder), name)
            hpcq(rng.choice((1, 2, 3, 5)), "resume", chain.directory, timeout=900)
            left = [*chain.directory.glob("*.partial"), *chain.directory.glob("*.damaged*")]
            if summary(chain.directory)["digest"] != digests[name] or left:
                lost += 1
                print(f"LOST: chain {chains} ({name}) ends otherwise, or leaves {left}", flush=True)
        told = f"{sum(total.values())} kills, {lost} lost, {time.monotonic() - began:.0f} s"
        print(f"chain {chains} ({name}): {told}", flush=True)
    told = ", ".join(f"{count} of a {how}" for how, count in total.items())
    print(
        f"{sum(total.values())} kills ({told}) in {chains} chains; "
        f"{verified} newest checkpoints verified after a kill; {lost} lost"
    )
    return lost


def uninterrupted(folder, name):
    """Return the digest of the run that nobody kills."""
    job = make_job.write(folder / "alone.toml", JOBS[name])
    hpcq(2, "run", job, f"--set=run.directory='{folder / 'alone'}'")
    return summary(folder / "alone")["digest"]


def verifies(path):
    """Return whether `hpcq verify` finds nothing wrong."""
    return subprocess.run([HPCQ, "verify", path], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
