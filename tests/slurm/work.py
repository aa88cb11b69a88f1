"""Jobs that last until a test lets them end, and what they come to when nobody stops them."""

import os
from pathlib import Path

import launch
import make_job

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "slurm" / "train.sbatch"

# Compiled environments are too fast to be stopped twice by limits that count in minutes: many
# checkpoints make the job slow, and these change nothing of what is learned.
JOBS = {
    "compiled": make_job.make(
        {"id": "Taxi-v4", "count": 64, "max_episode_steps": 50},
        learning={"learning_rate": {"schedule": "visits", "exponent": 0.7}},
        checkpoint={"every": 2},
        run={"steps": 6_400_000, "directory": "runs/job"},
        name="compiled",
    ),
    "python": make_job.make(
        {"id": "slowly:Slow-v0", "count": 5, "reset_every": 40},
        checkpoint={"every": 40},
        run={"steps": 12_500, "cut_episodes": False, "directory": "runs/job"},
        name="python",
    ),
}


class Work:
    """A job file in a folder of its own, submitted to a cluster with `slurm/train.sbatch`."""

    def __init__(self, cluster, folder, kind):
        self.cluster, self.folder, self.kind = cluster, Path(folder), kind
        self.folder.mkdir(parents=True)
        self.job = JOBS[kind]
        self.mark = self.folder / "slowly"
        self.mark.touch()
        self.directory = self.folder / "runs" / "job"
        self.number = None
        make_job.write(self.folder / "job.toml", self.job)

    def submit(self, *options, overrides=(), **variables):
        """Submit, on two ranks unless the options of sbatch say otherwise."""
        self.number = self.cluster.submit(
            "--ntasks=2", "--time=30", *options, TRAIN, "job.toml", *overrides,
            cwd=self.folder, HPCQ_TEST_SLOWLY=str(self.mark), **variables,
        )  # fmt: skip
        return self

    def speed_up(self):
        """Let the job come to its end (a compiled one from its next start on)."""
        self.mark.unlink(missing_ok=True)
        seldom = self.job.model_copy(
            update={"checkpoint": self.job.checkpoint.model_copy(update={"every": 1_000_000})}
        )
        make_job.write(self.folder / "job.toml", seldom)

    @property
    def log(self):
        """The log so far."""
        found = self.folder / f"hpcq-{self.number}.log"
        return found.read_text() if found.exists() else ""

    def wait(self, condition, what, seconds=600):
        """Wait for a condition; show the log if it does not come."""
        try:
            return self.cluster.wait(condition, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def wait_saved(self):
        """Wait until the run is on and has a checkpoint."""
        self.wait(lambda: list(self.directory.glob("ckpt-*.h5")), "a checkpoint")

    def wait_restart(self, restarts=1):
        """Wait until Slurm has requeued the job so often."""
        self.wait(lambda: self.cluster.restarts(self.number) >= restarts, "a restart")

    def finish(self, state="COMPLETED"):
        """Wait for the job's end and check the state it ends in."""
        self.cluster.finish(self.number, state)

    def digest(self):
        """Return the digest of the finished run."""
        return launch.summary(self.directory)["digest"]


def uninterrupted(folder, kind):
    """Run a job without Slurm and return its digest."""
    file = make_job.write(Path(folder) / f"{kind}.toml", JOBS[kind])
    directory = Path(folder) / kind
    launch.hpcq(
        1, "run", file, f"--set=run.directory='{directory}'", "--set=checkpoint.every=1000000"
    )
    return launch.summary(directory)["digest"]


os.environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
