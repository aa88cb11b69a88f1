"""The commands for clusters: doctor, submit, sweep, scaling."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcq.cli.options import SET
from hpcq.cluster.launch import on_ranks
from hpcq.cluster.launcher import first_rank, launched
from hpcq.errors import DependencyError, ExitCode
from hpcq.output import echo

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcq.doctor.facts import Facts


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("runs"))
def doctor(directory: Path) -> ExitCode:
    """Find what would make runs fail, wrong or slow; DIRECTORY is where they will be saved.

    \b
    mpirun -n 4 hpcq doctor /scratch/me          (as a run would start)
    hpcq doctor                                  (one process, without MPI)
    """
    from hpcq.doctor.checks import examine
    from hpcq.doctor.examination import examine_here, examine_ranks
    from hpcq.doctor.report import report_text

    ranks: list[Facts] = []

    def body(comm: "MPI.Intracomm", pending_signals: list[int]) -> ExitCode:
        ranks.extend(examine_ranks(comm, directory))
        return ExitCode.DONE

    try:
        if launched()[0] > 1:
            on_ranks(body, whole=False)
    except DependencyError:
        pass  # MPI does not load: `examine_here` finds out why
    if not first_rank():
        return ExitCode.DONE
    ranks = ranks or examine_here(directory)
    findings = examine(ranks)
    echo(report_text(ranks, findings))
    serious = any(finding.level == "problem" for finding in findings)
    return ExitCode.DEPENDENCY if serious else ExitCode.DONE


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--nodes", type=click.IntRange(1), help="Nodes; default 1.")
@click.option("--ntasks", type=click.IntRange(1), help="Ranks, over all nodes; default 4.")
@click.option("--time", help="Limit of one start, as sbatch takes it; default 4 hours.")
@click.option("--partition", help="Slurm's partition.")
@click.option("--account", help="Slurm's account.")
@click.option("--at-once", type=click.IntRange(1), help="Most jobs of a sweep to run at a time.")
@click.option(
    "--sbatch",
    "further",
    multiple=True,
    metavar="--OPTION=VALUE",
    help="Any other option of sbatch.",
)
@click.option("--dry-run", is_flag=True, help="Print the script; submit nothing.")
def submit(job: Path, overrides: tuple[str, ...], dry_run: bool, **options: Any) -> ExitCode:
    """Submit a job file, or all jobs of its [sweep], to Slurm.

    \b
    hpcq submit jobs/taxi.toml --ntasks 64 --time 2:00:00
    hpcq submit jobs/taxi.toml --sbatch --mem-per-cpu=4G --dry-run > my.sbatch
    """
    from hpcq.cluster.submit import Request, header_text, prepare
    from hpcq.cluster.submit import submit as send

    submission = prepare(job, overrides, Request(**options))
    for note in submission.notes:
        echo(note, err=dry_run)
    if dry_run:
        echo(submission.script, nl=False)
        return ExitCode.DONE
    echo(header_text(submission.script))
    number = send(submission)
    echo(f"submitted as {number}; see: squeue --me, hpcq-{number}*.log")
    return ExitCode.DONE


@click.group("sweep")
def sweeps() -> None:
    """Show or collect the runs of a job file with a section [sweep].

    \b
    hpcq sweep list jobs/sweeps/frozenlake.toml
    """


@sweeps.command("list")
@click.argument("job", type=click.Path(path_type=Path))
@SET
def list_(job: Path, overrides: tuple[str, ...]) -> ExitCode:
    """Show every member of a sweep: its values and progress.

    \b
    hpcq sweep list jobs/sweeps/frozenlake.toml
    """
    from hpcq.cluster.collect import list_text
    from hpcq.cluster.sweep import load

    echo(list_text(load(job, overrides)))
    return ExitCode.DONE


@sweeps.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
def collect(job: Path, overrides: tuple[str, ...]) -> ExitCode:
    """Make one table of a sweep, with means and confidence intervals over seeds.

    \b
    hpcq sweep collect jobs/sweeps/frozenlake.toml      (also writes sweep.csv and best.toml)
    """
    from hpcq.cluster.collect import collect as make_table
    from hpcq.cluster.sweep import load

    echo(make_table(load(job, overrides)))
    return ExitCode.DONE


@click.group()
def scaling() -> None:
    """Plan and report strong and weak scaling; slurm/scaling.sbatch makes the runs.

    \b
    sbatch --ntasks=64 slurm/scaling.sbatch jobs/taxi.toml
    hpcq scaling report runs/taxi-scaling
    """


@scaling.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--ranks", required=True, type=click.IntRange(1), help="The most ranks.")
@click.option(
    "--repeat",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Repetitions of each run.",
)
def plan(job: Path, overrides: tuple[str, ...], ranks: int, repeat: int) -> ExitCode:
    """Print a line for each run: ranks, folder, changed job keys.

    \b
    hpcq scaling plan jobs/taxi.toml --ranks 64
    """
    from hpcq.cluster.scaling import plan_text
    from hpcq.job.job import Job

    echo(plan_text(Job.load(job, overrides), ranks, repeat))
    return ExitCode.DONE


@scaling.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> ExitCode:
    """Make a table and a plot of the runs in a scaling folder.

    \b
    hpcq scaling report runs/taxi-scaling
    """
    from hpcq.cluster.scaling import report as make_report

    echo(make_report(directory))
    return ExitCode.DONE
