"""Submit a job file to Slurm: check it, fill in slurm/train.sbatch, call sbatch."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcq.cluster import sweep
from hpcq.envs.resolve import resolve
from hpcq.errors import DependencyError, JobError
from hpcq.job.job import Job
from hpcq.job.toml_io import read
from hpcq.run import metrics_files
from hpcq.run.estimate import estimate, size
from hpcq.spaces.codec import Codec

# A link to the repository's folder slurm/; in an installed hpcq, a copy.
TEMPLATE = Path(__file__).parents[1] / "slurm" / "train.sbatch"


@dataclass(frozen=True)
class Request:
    """Options of sbatch; None: as in the template."""

    nodes: int | None = None
    ntasks: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    at_once: int | None = None
    """of a sweep's jobs"""
    further: tuple[str, ...] = ()
    """further options of sbatch, such as "--mem-per-cpu=4G" """


@dataclass(frozen=True)
class Submission:
    """A checked job and the script that will train it."""

    jobs: list[Job]
    ranks: int
    script: str
    notes: list[str]
    """memory and time that the job needs, and warnings"""


def prepare(path: Path, overrides: Sequence[str], request: Request) -> Submission:
    """Check the job file and write the script. Submits nothing.

    Raises
    ------
    JobError, EnvironmentFault
        for a job that would fail, or a request that is not valid.
    """
    several = "sweep" in read(path)
    if several:
        jobs = [member.job for member in sweep.load(path, overrides).members]
    else:
        jobs = [Job.load(path, overrides)]
    options = _options(jobs, request, several)
    script = fill_in(TEMPLATE.read_text(), options, [str(path), *_set(overrides)])
    header = _header(script)
    ranks, nodes = int(header["ntasks"]), int(header["nodes"])
    if ranks < nodes:
        raise JobError(f"--ntasks {ranks} on --nodes {nodes}: expected a rank or more per node")
    return Submission(jobs, ranks, script, list(_notes(jobs, ranks, nodes, several)))


def _set(overrides: Sequence[str]) -> list[str]:
    return [word for assignment in overrides for word in ("--set", assignment)]


def _options(jobs: Sequence[Job], request: Request, several: bool) -> dict[str, str]:
    """Return the options of sbatch that differ from the template's."""
    options = {"job-name": jobs[0].name}
    for name in ("nodes", "ntasks", "time", "partition", "account"):
        value = getattr(request, name)
        if value is not None:
            options[name] = str(value)
    if request.time is not None:
        # Time to save: a tenth of the limit, between half a minute and five.
        options["signal"] = f"B:USR1@{min(max(seconds(request.time) // 10, 30), 300)}"
    if several:
        limit = f"%{request.at_once}" if request.at_once else ""
        options |= {"array": f"0-{len(jobs) - 1}{limit}", "output": "hpcq-%A-%a.log"}
    for option in request.further:
        found = re.fullmatch(r"--([a-z-]+)(?:=(.*))?", option)
        if not found:
            raise JobError(f"--sbatch {option}: expected --OPTION or --OPTION=VALUE")
        options[found[1]] = found[2] or ""
    return options


def seconds(time: str) -> int:
    """Return a time limit in Slurm's syntax, such as 30, 1:30:00 or 2-12, in seconds.

    Raises
    ------
    JobError
        if it is not one.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        raise JobError(
            f"--time {time}: expected MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, or "
            "DAYS-HOURS[:MINUTES[:SECONDS]]"
        )
    days, a, b, c = (int(part or 0) for part in found.groups())
    if found[1] is not None:
        return ((days * 24 + a) * 60 + b) * 60 + c
    return (a * 60 + b) * 60 + c if found[4] is not None else a * 60 + b


def fill_in(template: str, options: dict[str, str], arguments: Sequence[str]) -> str:
    """Return the template with these options of sbatch, and with its arguments."""
    lines = template.splitlines()
    remaining = dict(options)
    last = 0
    for i, line in enumerate(lines):
        if line.startswith("#SBATCH --"):
            last = i
            name = line.removeprefix("#SBATCH --").partition("=")[0]
            if name in remaining:
                lines[i] = _directive(name, remaining.pop(name))
    added = [_directive(*option) for option in remaining.items()]
    lines[last + 1 : last + 1] = [*added, f"set -- {shlex.join(arguments)}"]
    return "\n".join(lines) + "\n"


def _directive(name: str, value: str) -> str:
    return f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}"


def _header(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script, re.MULTILINE))


def header_text(script: str) -> str:
    """Return the lines of a script that differ from job to job."""
    return "\n".join(line for line in script.splitlines() if line.startswith(("#SBATCH", "set --")))


def _notes(jobs: Sequence[Job], ranks: int, nodes: int, several: bool) -> Iterator[str]:
    """Yield what the job needs, as far as that is known beforehand."""
    job = jobs[0]
    environment = resolve(job.environment)
    states = Codec(environment.observation).size
    if several:
        yield f"{len(jobs)} jobs, {ranks} ranks each"
    most = size(estimate(job, states, ranks, 1)["rank_bytes"])
    yield f"memory: {states:,} states: at most {most} per rank if all are seen"
    yield f"time: {_time(job)}"
    if ranks > job.environment.count:
        yield f"warning: {ranks} ranks for {job.environment.count} environments: some will idle"
    if nodes > 1 and job.checkpoint.writer == "gather":
        yield f"warning: {nodes} nodes will checkpoint through rank 0 (checkpoint.writer = gather)"


def _time(job: Job) -> str:
    """Return the steps left to do, and the time for them at the speed of the run so far."""
    lines = metrics_files.read(job.directory)
    if not lines or not lines[-1].get("steps_per_second"):
        return f"{job.run.steps:,} steps; the log of the first minutes says how long they take"
    last = lines[-1]
    left = max(job.run.steps - last["step"], 0)
    return (
        f"{left:,} steps left, {left / last['steps_per_second'] / 60:.0f} min at the last run's "
        f"{last['steps_per_second']:,.0f} steps/s"
    )


def submit(submission: Submission) -> str:
    """Submit the script with sbatch; return the number of the batch job.

    Raises
    ------
    DependencyError
        if there is no sbatch.
    JobError
        if sbatch refuses, with its message.
    """
    if shutil.which("sbatch") is None:
        raise DependencyError(
            "no sbatch on PATH: this is no Slurm cluster, or its module is needed"
        )
    done = subprocess.run(
        ["sbatch", "--parsable"],
        input=submission.script,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    if done.returncode:
        raise JobError(f"sbatch refused: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]
