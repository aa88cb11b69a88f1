"""The commands about job files: those that hpcq brings."""

from pathlib import Path

import click

from hpcq.errors import ExitCode


@click.group("jobs", invoke_without_command=True)
@click.pass_context
def jobs(context: click.Context) -> None:
    """List the job files that hpcq brings, or copy one.

    \b
    hpcq jobs
    hpcq jobs copy taxi && hpcq run -n 2 taxi.toml
    """
    from hpcq.job import bundled

    if context.invoked_subcommand is None:
        click.echo(bundled.list_text())


@jobs.command()
@click.argument("name")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def copy(name: str, folder: Path) -> ExitCode:
    """Copy the job file NAME to DIR (default: here), to be changed and run.

    \b
    hpcq jobs copy taxi
    hpcq jobs copy sweeps/frozenlake my-jobs
    """
    from hpcq.job import bundled

    file = bundled.copy(name, folder)
    click.echo(f"{file}; train it with `hpcq run -n 2 {file}`")
    return ExitCode.DONE
