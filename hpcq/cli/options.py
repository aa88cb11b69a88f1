"""Arguments and options of several commands."""

from pathlib import Path

import click

from hpcq.errors import JobError

FILE = click.argument("file", type=click.Path(path_type=Path))

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a key of the job, for example run.steps=1e6; KEY= for its default. May be "
    "repeated.",
)

LIVE = click.option(
    "--live/--no-live",
    default=None,
    envvar="HPCQ_LIVE",
    help="Show progress as a live view, or as lines. Default: live on a terminal.",
)

RANKS = click.option(
    "-n",
    "--ranks",
    type=click.IntRange(1),
    help="Start mpirun with so many ranks, on this machine or in a Slurm allocation. Default: one "
    "process.",
)

RETRIES = click.option(
    "--retries",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    help="With -n: if ranks are killed or stall, start again from the newest checkpoint, at most K "
    "times without a newer one between.",
)


def check_readable_by_ranks(job: Path) -> None:
    """Refuse a job file that is a pipe of this process: the ranks that -n starts have it not."""
    if job.exists() and not (job.is_file() or job.is_dir()):
        raise JobError(
            f"{job}: the ranks that -n starts cannot read a pipe; write the job to a file"
        )
