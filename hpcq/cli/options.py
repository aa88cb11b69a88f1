"""Options that several commands share."""

import click

SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a key of the job, for example run.steps=1000000. May be repeated.",
)

RANKS = click.option(
    "-n",
    "--ranks",
    type=click.IntRange(1),
    help="Start mpirun on this machine, with so many ranks. Default: one process.",
)
