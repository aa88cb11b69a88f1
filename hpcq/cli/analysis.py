"""The commands that analyse a run: eval, plot, report, publish."""

from pathlib import Path

import click

from hpcq.cli.options import AS_JSON, FILE
from hpcq.errors import ExitCode
from hpcq.output import echo
from hpcq.run.formatting import json_text

# Each is a file in `view/trackers/`, and an extra.
TRACKERS = ("mlflow", "wandb", "aim")

RUN_DIR = click.argument("directory", metavar="RUN_DIR", type=click.Path(path_type=Path))


@click.command("eval")
@FILE
@click.option("--episodes", default=100, show_default=True, type=click.IntRange(1))
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the episodes."
)
@click.option("--job", type=click.Path(path_type=Path), help="Job file; default: the run's own.")
@click.option(
    "--render",
    metavar="FILE.gif",
    type=click.Path(path_type=Path),
    help="Write one episode as a GIF.",
)
@AS_JSON
def evaluate(
    file: Path, episodes: int, seed: int, job: Path | None, render: Path | None, as_json: bool
) -> ExitCode:
    """Play episodes by the greedy policy of a checkpoint; print the mean return.

    \b
    hpcq eval runs/taxi --episodes 1000
    hpcq eval runs/frozenlake --render lake.gif
    """
    from hpcq.view.evaluate import evaluate as play
    from hpcq.view.present import evaluation_text

    if render is not None:
        from hpcq.view.render import render as draw

        # The environment may leave the working folder.
        file, job = file.absolute(), job and job.absolute()
        frames = draw(file, render.absolute(), seed, job)
        echo(f"{render}: {frames} frames", err=as_json)
    found = play(file, episodes, seed, job)
    echo(json_text(found) if as_json else evaluation_text(found))
    return ExitCode.DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@AS_JSON
def runs(folder: Path, as_json: bool) -> ExitCode:
    """List the runs in FOLDER (default: runs): job, state, steps, last return, age.

    \b
    hpcq runs
    hpcq runs /scratch/me --json
    """
    from hpcq.view.listing import list_runs, runs_text

    found = list_runs(folder)
    echo(json_text([vars(run) for run in found]) if as_json else runs_text(found))
    return ExitCode.DONE


@click.command()
@RUN_DIR
@click.option("--output", type=click.Path(path_type=Path), help="Folder; default: RUN_DIR.")
def plot(directory: Path, output: Path | None) -> ExitCode:
    """Write plots of a run as PNG files: curves, time, balance, distributions, maps.

    \b
    hpcq plot runs/frozenlake8x8 --output pictures
    """
    from hpcq.view.report import plot as draw

    for path in draw(directory, output):
        echo(path)
    return ExitCode.DONE


@click.command()
@RUN_DIR
@click.option("--output", type=click.Path(path_type=Path), help="Default: RUN_DIR/report.html.")
def report(directory: Path, output: Path | None) -> ExitCode:
    """Write a run as one HTML page: plots, job, provenance. It needs no network.

    \b
    hpcq report runs/frozenlake8x8
    """
    from hpcq.view.report import report as write

    echo(write(directory, output))
    return ExitCode.DONE


@click.command()
@click.argument("folder", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "tracker",
    required=True,
    type=click.Choice(TRACKERS),
    help="The tracker; its package comes with the extra of its name.",
)
@click.option(
    "--project",
    default="hpcq",
    show_default=True,
    help="MLflow's or Aim's experiment, W&B's project.",
)
def publish(folder: Path, tracker: str, project: str) -> ExitCode:
    """Send a run's job, metrics and summary to a tracker; of a folder, every run in it.

    \b
    hpcq publish runs/taxi --to mlflow           (where MLFLOW_TRACKING_URI says)
    WANDB_MODE=offline hpcq publish runs/frozenlake --to wandb
    """
    from hpcq.view.publishing import publish as send

    for line in send(folder, tracker, project):
        echo(line)
    return ExitCode.DONE
