"""The commands about job files: those that hpcq brings, and what can be in one."""

import json
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


@click.command()
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--markdown", is_flag=True, help="Print tables in Markdown.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a job file, for editors.")
def reference(words: tuple[str, ...], markdown: bool, schema: bool) -> ExitCode:
    """Explain the keys of a job file: type, range, default, meaning; or those about WORD.

    \b
    hpcq reference
    hpcq reference learning rate
    hpcq reference --schema > hpcq.schema.json
    """
    from hpcq.job.reference import reference_markdown, reference_text
    from hpcq.job.schema import job_schema

    if schema:
        click.echo(json.dumps(job_schema(), indent=2))
    else:
        click.echo(reference_markdown() if markdown else reference_text(words))
    return ExitCode.DONE
