"""The commands for clusters and machines: doctor, submit, sweep, scaling."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcq.cli.options import LIVE, RETRIES, SET
from hpcq.cluster.launch import on_ranks
from hpcq.cluster.launcher import first_rank, launched
from hpcq.errors import DependencyError, ExitCode
from hpcq.output import echo
from hpcq.run import terminal

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcq.cluster.sweep import Sweep
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
def launcher() -> ExitCode:
    """Print how ranks are started with the MPI in use: its mpirun, or srun with the right --mpi.

    For batch scripts, as in $(hpcq launcher) -n 64 hpcq run job.toml. HPCQ_LAUNCHER=srun (or
    mpirun) chooses; HPCQ_SRUN_MPI says what srun speaks.

    \b
    hpcq launcher
    """
    from hpcq.cluster.launchers import words

    echo(shlex.join(words()))
    return ExitCode.DONE


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
    """Run, show or collect the members of a job file with a section [sweep].

    \b
    hpcq sweep run -n 2 jobs/sweeps/frozenlake.toml
    """


@sweeps.command("run")
@click.argument("job", type=click.Path(path_type=Path))
@click.option(
    "-n",
    "--ranks",
    type=click.IntRange(1),
    help="Start mpirun with so many ranks for each member. Default: one process.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    help="Members that run at a time. Default: as many as there are cores for.",
)
@RETRIES
@SET
@LIVE
def run_members(
    job: Path,
    ranks: int | None,
    at_once: int | None,
    retries: int,
    overrides: tuple[str, ...],
    live: bool | None,
) -> int:
    """Run all members of a sweep on this machine; started again, go on with what is not done.

    The exit code is that of the first member that failed; the others are finished all the same.

    \b
    hpcq sweep run -n 2 jobs/sweeps/frozenlake.toml
    """
    from hpcq.cluster.local import run_sweep
    from hpcq.cluster.sweep import load

    if retries and ranks is None:
        raise click.UsageError("--retries needs -n: one process is `-n 1`")
    sweep = load(job, overrides)
    code = run_sweep(sweep, overrides, ranks, at_once, terminal.shows(live), retries)
    if code == ExitCode.DONE:
        echo()
        _show_table(sweep)
    return code


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
    """Make one table of a sweep, with means and confidence intervals over seeds, and a picture.

    \b
    hpcq sweep collect jobs/sweeps/frozenlake.toml      (sweep.csv, sweep.png, best.toml)
    """
    from hpcq.cluster.sweep import load

    _show_table(load(job, overrides))
    return ExitCode.DONE


def _show_table(sweep: "Sweep") -> None:
    from hpcq.cluster.collect import collect as make_table
    from hpcq.view.sweeps import draw

    found = make_table(sweep)
    echo(found.text)
    echo(draw(found, sweep.directory))


@click.group()
def scaling() -> None:
    """Measure strong and weak scaling; on Slurm, slurm/scaling.sbatch makes the runs.

    \b
    hpcq scaling run jobs/taxi.toml
    sbatch --ntasks=64 slurm/scaling.sbatch jobs/taxi.toml
    hpcq scaling report runs/taxi-scaling
    """


REPEAT = click.option(
    "--repeat",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Repetitions of each run.",
)


@scaling.command("run")
@click.argument("job", type=click.Path(path_type=Path))
@click.option(
    "-n", "--ranks", type=click.IntRange(1), help="The most ranks. Default: as many as cores."
)
@REPEAT
@SET
@click.option("--overwrite", is_flag=True, help="Also make anew the runs that are done.")
@LIVE
def run_scaling(
    job: Path,
    ranks: int | None,
    repeat: int,
    overrides: tuple[str, ...],
    overwrite: bool,
    live: bool | None,
) -> int:
    """Make the runs of a scaling on this machine, one after the other, and report on them.

    \b
    hpcq scaling run -n 4 jobs/taxi.toml
    """
    from hpcq.cluster.local import run_scaling as run_all
    from hpcq.cluster.scaling import report as make_report

    code, folder = run_all(job, overrides, ranks, repeat, overwrite, terminal.shows(live))
    if code == ExitCode.DONE:
        echo()
        echo(make_report(folder))
    return code


@scaling.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option("--ranks", required=True, type=click.IntRange(1), help="The most ranks.")
@REPEAT
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
