"""The commands for job files: bundled ones, new ones, and the reference of their keys."""

import json
from pathlib import Path
from typing import Any

import click

from hpcq.cli.options import SET
from hpcq.errors import ExitCode
from hpcq.output import echo
from hpcq.printable import printable


@click.group("jobs", invoke_without_command=True)
@click.pass_context
def jobs(context: click.Context) -> None:
    """List the bundled job files, or copy one.

    \b
    hpcq jobs
    hpcq jobs copy taxi && hpcq run -n 2 taxi.toml
    """
    from hpcq.job import library

    if context.invoked_subcommand is None:
        echo(library.list_text())


@jobs.command()
@click.argument("name")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def copy(name: str, folder: Path) -> ExitCode:
    """Copy the job file NAME to DIR (default: here), to edit and run.

    \b
    hpcq jobs copy taxi
    hpcq jobs copy sweeps/frozenlake my-jobs
    """
    from hpcq.job import library

    file = library.copy(name, folder)
    echo(f"{file}; train it with `hpcq run -n 2 {file}`")
    return ExitCode.DONE


@click.command()
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--markdown", is_flag=True, help="Print tables in Markdown.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a job file, for editors.")
def reference(words: tuple[str, ...], markdown: bool, schema: bool) -> ExitCode:
    """Explain the keys of a job file: type, range, default, meaning.

    With WORDs, only those about them.

    \b
    hpcq reference
    hpcq reference learning rate
    hpcq reference --schema > hpcq.schema.json
    """
    from hpcq.job.reference import reference_markdown, reference_text
    from hpcq.job.schema import job_schema

    if schema:
        echo(json.dumps(job_schema(), indent=2))
    else:
        echo(reference_markdown() if markdown else reference_text(words))
    return ExitCode.DONE


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@SET
@click.option(
    "-n", "--ranks", default=1, show_default=True, type=click.IntRange(1), help="For the estimate."
)
def check(job: Path, overrides: tuple[str, ...], ranks: int) -> ExitCode:
    """Check a job without training: its keys, the environment's first steps, memory, time.

    It ends with the code that `hpcq run` would end with at once.

    \b
    hpcq check -n 2 taxi.toml
    """
    from hpcq.job.job import Job
    from hpcq.run.checking import check as find

    for line in find(Job.load(job, overrides), ranks):
        echo(printable(line))
    return ExitCode.DONE


@click.command()
@click.argument("environment", metavar="ENV_ID")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: NAME.toml, here.")
@SET
def init(environment: str, output: Path | None, overrides: tuple[str, ...]) -> ExitCode:
    """Write a first job file for an environment.

    ENV_ID is an id of Gymnasium's or hpcq's, module:Name, or file.py:Name. The values follow
    from its spaces and a few thousand random steps; the reason is above each key.

    \b
    hpcq init CartPole-v1
    hpcq init mine.py:Mine -o first.toml --set environment.kwargs.size=5
    """
    from hpcq.job.toml_io import beside, override
    from hpcq.scaffold import write

    given: dict[str, Any] = {"environment": {"id": environment}}
    override(given, overrides)
    beside(given, Path())
    path = output or Path(write.default_name(environment))
    # The environment may leave the working folder.
    file = path.absolute()
    text = write.job_text(given, file.parent)
    if str(path) == "-":
        echo(text, nl=False)
        return ExitCode.DONE
    write.write(text, file)
    echo(f"{text}\nThis is {path}; train it with `hpcq run -n 2 {path}`")
    return ExitCode.DONE
