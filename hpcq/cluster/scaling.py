"""Strong and weak scaling: plan the runs, report their results.

Strong: the same job on more and more ranks. Weak: environments and steps grow with the ranks, so
that the work per rank is constant. Speed-up is steps per second over those of one rank, efficiency
is speed-up per rank.
"""

import csv
import io
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcq import disk
from hpcq.cluster.collect import columns
from hpcq.errors import JobError, RunDirectoryError
from hpcq.job.job import Job
from hpcq.run import run_directory, stored_job

TABLE, PLOT = "scaling.csv", "scaling.png"

# A run's folder: kind, ranks, repetition.
_FOLDER = re.compile(r"(strong|weak)-(\d+)-(\d+)")


@dataclass(frozen=True)
class Run:
    """One run to make."""

    kind: str
    ranks: int
    repetition: int
    environments: int
    steps: int

    @property
    def name(self) -> str:
        """The name of its run directory."""
        return f"{self.kind}-{self.ranks:04d}-{self.repetition}"

    @property
    def changes(self) -> tuple[str, ...]:
        """The job keys that differ from the job's, as assignments."""
        return (
            f"environment.count={self.environments}",
            f"run.steps={self.steps}",
            # Measure ticks, not checkpoints: save at the end only.
            f"checkpoint.every={1 << 40}",
        )

    def line(self, directory: Path) -> str:
        """Return ranks, folder and changed job keys, as slurm/scaling.sbatch reads them."""
        changes = " ".join(f"--set={assignment}" for assignment in self.changes)
        return f"{self.ranks} {directory / self.name} {changes}"


@dataclass(frozen=True)
class Point:
    """The result of the runs of one kind on one number of ranks."""

    kind: str
    ranks: int
    rate: float
    """steps per second, the median over repetitions"""
    speedup: float
    """over one rank"""

    @property
    def efficiency(self) -> float:
        """Speed-up per rank."""
        return self.speedup / self.ranks


def folder_of(job: Job) -> Path:
    """Return the folder of the runs."""
    return job.directory.with_name(f"{job.directory.name}-scaling")


def plan_text(job: Job, ranks: int, repeat: int) -> str:
    """Return a line for each run, for slurm/scaling.sbatch.

    Raises
    ------
    JobError
        for a run directory with white space, which the script cannot parse.
    """
    directory = folder_of(job)
    if re.search(r"\s", str(directory)):
        raise JobError(f"run.directory = {str(directory)!r}: expected no white space in it")
    return "\n".join(run.line(directory) for run in plan(job, ranks, repeat))


def plan(job: Job, ranks: int, repeat: int) -> Iterator[Run]:
    """Yield the runs on 1, 2, 4 ... and `ranks` ranks, strong ones first."""
    counts = sorted({ranks, *(1 << i for i in range(ranks.bit_length()) if 1 << i <= ranks)})
    for kind in ("strong", "weak"):
        for count in counts:
            share = count if kind == "weak" else 1
            for repetition in range(repeat):
                environments, steps = job.environment.count * share, job.run.steps * share
                yield Run(kind, count, repetition, environments, steps)


def measure(directory: Path) -> tuple[list[Point], bool]:
    """Read the runs of a scaling folder; return the points, and whether strong runs agree.

    Runs of the same job must end in one digest, whatever the number of ranks.

    Raises
    ------
    RunDirectoryError
        if there is no run on one rank to compare with.
    CheckpointError
        if a summary is not one.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    digests = set()
    for path in sorted(directory.glob(f"*/{run_directory.SUMMARY}")):
        if found := _FOLDER.fullmatch(path.parent.name):
            summary = stored_job.parse_object(path, "steps_per_second", "digest")
            rates.setdefault((found[1], int(found[2])), []).append(summary["steps_per_second"])
            if found[1] == "strong":
                digests.add(summary["digest"])
    points = []
    for (kind, ranks), values in rates.items():
        if (kind, 1) not in rates:
            raise RunDirectoryError(f"{directory}: no {kind} run on one rank to compare with")
        rate = statistics.median(values)
        points.append(Point(kind, ranks, rate, rate / statistics.median(rates[kind, 1])))
    if not points:
        raise RunDirectoryError(
            f"{directory}: no runs here; make them with `hpcq scaling run JOB.toml`, or on Slurm "
            "with sbatch slurm/scaling.sbatch JOB.toml"
        )
    return points, len(digests) <= 1


def report(directory: Path) -> str:
    """Write table and plot into the folder; return a text."""
    points, agree = measure(directory)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["kind", "ranks", "steps_per_second", "speedup", "efficiency"])
    for p in points:
        writer.writerow([p.kind, p.ranks, p.rate, p.speedup, p.efficiency])
    disk.write_text(directory / TABLE, table.getvalue())
    lines = [["kind", "ranks", "steps/s", "speed-up", "efficiency"]]
    for p in points:
        lines.append(
            [p.kind, str(p.ranks), f"{p.rate:,.0f}", f"{p.speedup:.2f}", f"{p.efficiency:.2f}"]
        )
    plotted = plot(points, directory / PLOT)
    drawing = f"plot: {directory / PLOT}" if plotted else "no plot: pip install 'hpcq[plot]'"
    digest = "all strong runs end in one digest" if agree else "STRONG RUNS DIFFER IN THEIR DIGESTS"
    return "\n".join([*columns(lines), "", digest, f"table: {directory / TABLE}, {drawing}"])


def plot(points: Sequence[Point], path: Path) -> bool:
    """Draw speed-up over ranks; return False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    ranks = sorted({p.ranks for p in points})
    axes.plot(ranks, ranks, color="gray", linestyle=":", label="ideal")
    for kind, marker in (("strong", "o"), ("weak", "s")):
        curve = sorted((p.ranks, p.speedup) for p in points if p.kind == kind)
        if curve:
            axes.plot(*zip(*curve, strict=True), marker=marker, label=kind)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(ranks, list(map(str, ranks)))
    axes.set_yticks(ranks, list(map(str, ranks)))
    axes.set_xlabel("ranks")
    axes.set_ylabel("speed-up in steps per second")
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    disk.write(path, png.getvalue())
    return True
